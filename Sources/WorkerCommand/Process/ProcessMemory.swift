import CProcess

/// Keeps what a long-running process has in memory, such as passwords and payloads, from core files and debuggers.
enum ProcessMemory {
    /// The variable that switches this off, for debugging: `BREAKWATER_ALLOW_DUMPS=1`.
    static let variable = "BREAKWATER_ALLOW_DUMPS"

    /// Refuses core files, and other processes of the same account that would read the memory or trace the process.
    ///
    /// Programs that the worker starts can be traced as before; core files they have none either.
    static func refuseDumps(environment: [String: String]) {
        guard environment[variable] != "1" else { return }
        // Where the system refuses it, the worker works as well; nothing else hangs on it.
        _ = breakwater_refuse_dumps()
    }
}
