import Foundation

/// Figures that Linux keeps about this process.
enum ProcessFigures {
    /// The peak resident memory, in bytes.
    static var peakMemory: Int64? { status("VmHWM") }

    /// The resident memory now, in bytes.
    static var memory: Int64? { status("VmRSS") }

    /// The processor time that the process has used.
    static var processorTime: Duration {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        return .seconds(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
            + .microseconds(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec)
    }

    /// The time since the process started, to a hundredth of a second.
    static var age: Duration? {
        // The name in a stat line may itself hold blanks. Of the fields after the name, the 20th is the start time.
        guard let stat = text("/proc/self/stat")?.split(separator: ")").last?.split(separator: " "), stat.count > 19,
            let ticks = Double(stat[19]), let uptime = text("/proc/uptime")?.split(separator: " ").first,
            let now = Double(uptime)
        else { return nil }
        return .seconds(now - ticks / Double(sysconf(Int32(_SC_CLK_TCK))))
    }

    /// A field of `/proc/self/status`, converted from kilobytes to bytes.
    private static func status(_ field: String) -> Int64? {
        text("/proc/self/status")?.split(separator: "\n")
            .first { $0.hasPrefix(field + ":") }?
            .split(separator: " ", omittingEmptySubsequences: true).compactMap { Int64($0) }.first.map { $0 * 1024 }
    }

    private static func text(_ path: String) -> String? {
        FileManager.default.contents(atPath: path).map { String(decoding: $0, as: UTF8.self) }
    }
}
