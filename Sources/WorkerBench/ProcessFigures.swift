import Foundation

/// What Linux knows of this process.
enum ProcessFigures {
    /// The most memory it ever had in RAM, in bytes.
    static var peakMemory: Int64? { status("VmHWM") }

    /// What it has in RAM now, in bytes.
    static var memory: Int64? { status("VmRSS") }

    /// How much processor time it has used.
    static var processorTime: Duration {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        return .seconds(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
            + .microseconds(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec)
    }

    /// How long ago it began, to a hundredth of a second.
    static var age: Duration? {
        // The fields of a stat line that follow the name, which may itself hold blanks: the 20th is the start.
        guard let stat = text("/proc/self/stat")?.split(separator: ")").last?.split(separator: " "), stat.count > 19,
            let ticks = Double(stat[19]), let uptime = text("/proc/uptime")?.split(separator: " ").first,
            let now = Double(uptime)
        else { return nil }
        return .seconds(now - ticks / Double(sysconf(Int32(_SC_CLK_TCK))))
    }

    /// A field of its status that is given in kilobytes, in bytes.
    private static func status(_ field: String) -> Int64? {
        text("/proc/self/status")?.split(separator: "\n")
            .first { $0.hasPrefix(field + ":") }?
            .split(separator: " ", omittingEmptySubsequences: true).compactMap { Int64($0) }.first.map { $0 * 1024 }
    }

    private static func text(_ path: String) -> String? {
        FileManager.default.contents(atPath: path).map { String(decoding: $0, as: UTF8.self) }
    }
}
