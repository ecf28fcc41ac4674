import Glibc

/// The limits on this process, in words, for operators who must raise one.
package enum ProcessLimits {
    /// The limit that an error number refers to.
    ///
    /// - Returns: The number's symbol, and a sentence that names the limit with its current value; nil for any other
    ///   number.
    static func exhausted(_ number: Int32) -> (symbol: String, sentence: String)? {
        switch number {
        case EMFILE:
            ("EMFILE", "this worker may have \(soft(RLIMIT_NOFILE)) files open (ulimit -n), and too few are left")
        case ENFILE:
            ("ENFILE", "this machine may have \(value(of: fileMaximum)) files open (fs.file-max), and too few are left")
        case EAGAIN:
            ("EAGAIN", "no further process or thread may start: \(processes)")
        case ENOMEM:
            ("ENOMEM", "no memory is left for it: this worker may use \(soft(RLIMIT_AS)) bytes (ulimit -v)")
        case ENOBUFS:
            ("ENOBUFS", "this machine has no memory left for the buffers of sockets")
        case EADDRNOTAVAIL:
            (
                "EADDRNOTAVAIL",
                "this machine has no local port or address for it; its ports are \(value(of: portRange)) "
                    + "(net.ipv4.ip_local_port_range)"
            )
        default:
            nil
        }
    }

    /// The error number with which opening this many descriptors would fail now; nil if they can be opened.
    ///
    /// This counts free descriptor numbers instead of opening them, because other threads might need these at that
    /// moment. The highest numbers are usually free, so few are examined.
    package static func errorOpening(descriptors count: Int) -> Int32? {
        var free = 0
        var number = Int32(clamping: openFiles) - 1
        while number >= 0, free < count {
            if fcntl(number, F_GETFD) < 0 { free += 1 }
            number -= 1
        }
        guard free >= count else { return EMFILE }
        // The machine may have no descriptors left, even if this process is below its limit.
        let file = open("/dev/null", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return errno }
        close(file)
        return nil
    }

    private static let fileMaximum = "/proc/sys/fs/file-max"
    private static let portRange = "/proc/sys/net/ipv4/ip_local_port_range"

    private static var processes: String {
        var limits = ["this worker's user may have \(soft(__RLIMIT_NPROC)) of them (ulimit -u)"]
        if let group = controlGroupProcesses { limits.append("its control group may have \(group) of them (pids.max)") }
        return limits.joined(separator: ", ")
    }

    /// The most descriptors that this process may have open.
    package static var openFiles: Int { Int(clamping: limit(RLIMIT_NOFILE) ?? .max) }

    private static func soft(_ resource: __rlimit_resource) -> String {
        guard let limit = limit(resource) else { return "an unknown number of" }
        return limit == rlim_t.max ? "any number of" : "\(limit)"
    }

    private static func limit(_ resource: __rlimit_resource) -> rlim_t? {
        var limit = rlimit()
        return getrlimit(.init(resource.rawValue), &limit) == 0 ? limit.rlim_cur : nil
    }

    /// The smallest `pids.max` of this process's control group and its ancestors; nil if none is set or can be read.
    private static var controlGroupProcesses: Int? {
        guard let text = read("/proc/self/cgroup") else { return nil }
        var limits: [Int] = []
        // Each line is `number:controllers:path`; version 2 has no controllers.
        for line in text.split(separator: "\n") {
            let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard parts.count == 3, parts[1].isEmpty || parts[1].split(separator: ",").contains("pids") else {
                continue
            }
            let root = parts[1].isEmpty ? "/sys/fs/cgroup" : "/sys/fs/cgroup/pids"
            var path = parts[2].split(separator: "/")
            while true {
                let group = path.isEmpty ? root : "\(root)/\(path.joined(separator: "/"))"
                if let limit = read("\(group)/pids.max").flatMap({ Int($0.trimmingNewline) }) { limits.append(limit) }
                if path.popLast() == nil { break }
            }
        }
        return limits.min()
    }

    private static func value(of file: String) -> String {
        guard let text = read(file)?.trimmingNewline else { return "a number of" }
        return text.split(whereSeparator: \.isWhitespace).joined(separator: " to ")
    }

    /// The content of a small kernel file; nil if it cannot be read, for example because no descriptor is free.
    private static func read(_ path: String) -> String? {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        return withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 1) { buffer in
            let count = Glibc.read(file, buffer.baseAddress, buffer.count)
            guard count > 0 else { return nil }
            return String(decoding: UnsafeRawBufferPointer(rebasing: buffer[..<count]), as: UTF8.self)
        }
    }
}

extension String {
    fileprivate var trimmingNewline: String { hasSuffix("\n") ? String(dropLast()) : self }
}
