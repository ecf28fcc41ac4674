import CProcess

/// Keeps the memory of a long-running process, with its passwords and payloads, out of core files and away from
/// debuggers.
enum ProcessMemory {
    /// The variable that switches this off, for debugging: `BREAKWATER_ALLOW_DUMPS=1`.
    static let variable = "BREAKWATER_ALLOW_DUMPS"

    /// Disables core files, and prevents other processes of the same account from reading the memory or tracing the
    /// process.
    ///
    /// Programs that the worker starts can still be traced, but they write no core files either.
    static func refuseDumps(environment: [String: String]) {
        guard environment[variable] != "1" else { return }
        // A failure is ignored, because the worker works without this protection.
        _ = breakwater_refuse_dumps()
    }
}
