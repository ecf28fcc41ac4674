import Glibc

/// Kills what the programs of ended jobs left behind outside their process groups: children that made a session of their
/// own, daemons.
///
/// They are found by the mark in their environment (`/proc/*/environ`), which costs some microseconds for each process of
/// the machine. So one search serves all jobs that ended meanwhile, and searches take a tenth of one core at most.
///
/// A process that cleared its environment as well, or that runs as another user, is not found.
actor LeftBehind {
    static let shared = LeftBehind()

    /// A search is followed by at least so many times what it took of the processor without one, up to a limit.
    private static let pauseFactor = 9
    private static let longestPause = Duration.milliseconds(100)
    /// What is found is killed and looked for again, as it may have started more in the meantime.
    private static let maximumRounds = 10

    private var marks: Set<RunMark> = []
    private var isBusy = false
    private var waiting: [CheckedContinuation<Void, Never>] = []
    private var nextSearch = ContinuousClock.now

    /// Kills the processes of an ended run.
    func kill(_ mark: RunMark) async {
        marks.insert(mark)
        while isBusy { await withCheckedContinuation { waiting.append($0) } }
        // Another's search may have been for this one too.
        guard marks.contains(mark) else { return }
        isBusy = true
        if .now < nextSearch { try? await Task.sleep(until: nextSearch) }
        let start = Self.processorTime
        search(for: marks)
        marks = []
        isBusy = false
        nextSearch = .now + min((Self.processorTime - start) * Self.pauseFactor, Self.longestPause)
        let woken = waiting
        waiting = []
        for continuation in woken { continuation.resume() }
    }

    /// What this thread has had of the processor.
    private static var processorTime: Duration {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
    }

    private func search(for marks: Set<RunMark>) {
        let entries = Set(marks.map(\.entry))
        for _ in 0..<Self.maximumRounds {
            let found = Self.processes().filter { Self.environment(of: $0, holdsOneOf: entries) }
            if found.isEmpty { return }
            for process in found { Glibc.kill(process, SIGKILL) }
        }
    }

    /// Every process of the machine, as far as it is shown.
    private static func processes() -> [pid_t] {
        guard let directory = opendir("/proc") else { return [] }
        defer { closedir(directory) }
        var processes: [pid_t] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if let process = pid_t(name) { processes.append(process) }
        }
        return processes
    }

    private static func environment(of process: pid_t, holdsOneOf entries: Set<[UInt8]>) -> Bool {
        let file = open("/proc/\(process)/environ", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return false }
        defer { close(file) }
        let prefix = Array("\(RunMark.variable)=".utf8)
        // The kernel gives at most a page at a time; an entry may lie across two.
        return withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 1) { buffer in
            var variable: [UInt8] = []
            while true {
                let count = read(file, buffer.baseAddress, buffer.count)
                guard count > 0 else { return false }
                var rest = UnsafeRawBufferPointer(rebasing: buffer[..<count])
                while let end = rest.firstIndex(of: 0) {
                    if variable.isEmpty, rest.first != prefix[0] {
                        rest = UnsafeRawBufferPointer(rebasing: rest[(end + 1)...])
                        continue
                    }
                    variable += rest[...end]
                    if variable.starts(with: prefix), entries.contains(variable) { return true }
                    variable = []
                    rest = UnsafeRawBufferPointer(rebasing: rest[(end + 1)...])
                }
                variable += rest
            }
        }
    }
}
