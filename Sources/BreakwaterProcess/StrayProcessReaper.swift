import Glibc

/// Kills processes that the programs of ended jobs left behind outside their process groups: daemons and children in
/// their own sessions.
///
/// They are found by the mark in their environment (`/proc/*/environ`), which costs some microseconds for each process
/// of the machine. So one search serves all jobs that have ended since the last one, and searches use at most a tenth
/// of one core. After short runs, a search examines only the process numbers that were assigned since the start.
///
/// A process that cleared its environment as well, or that runs as another user, is not found.
package actor StrayProcessReaper {
    package static let shared = StrayProcessReaper()

    /// The pause after a search is this many times the processor time that the search took, up to a limit.
    private static let pauseFactor = 9
    private static let longestPause = Duration.milliseconds(100)
    /// The most searches in a row. After the found processes are killed, the search is repeated, because they may have
    /// started more processes in the meantime.
    private static let maximumRounds = 10
    /// Process numbers increase until they wrap around. No machine uses up all numbers within this time. So if the last
    /// assigned number is above the program's, the numbers of all its descendants are between the two.
    private static let longestShortRun = Duration.milliseconds(250)
    /// Examining more numbers than this would cost more than listing all processes.
    private static let maximumNumbers = 256

    /// An ended run.
    package struct Run: Sendable {
        var mark: RunMark
        /// The process number of its program.
        var program: Int32
        /// A time before the program was started.
        var start: ContinuousClock.Instant

        package init(mark: RunMark, program: Int32, start: ContinuousClock.Instant) {
            self.mark = mark
            self.program = program
            self.start = start
        }
    }

    private var runs: [RunMark: Run] = [:]
    private var isBusy = false
    private var waiting: [CheckedContinuation<Void, Never>] = []
    private var nextSearch = ContinuousClock.now

    /// Kills the processes of an ended run.
    package func killProcesses(of run: Run) async {
        runs[run.mark] = run
        while isBusy { await withCheckedContinuation { waiting.append($0) } }
        // The search for another run may have covered this one too.
        guard runs[run.mark] != nil else { return }
        isBusy = true
        if .now < nextSearch { try? await Task.sleep(until: nextSearch) }
        let start = Self.processorTime
        Self.killProcesses(of: Array(runs.values))
        runs = [:]
        isBusy = false
        nextSearch = .now + min((Self.processorTime - start) * Self.pauseFactor, Self.longestPause)
        let woken = waiting
        waiting = []
        for continuation in woken { continuation.resume() }
    }

    /// The processor time that this thread has used.
    private static var processorTime: Duration {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
    }

    /// Kills the processes of these ended runs at once, on the calling thread. For runs that end rarely.
    package static func killProcesses(of runs: [Run]) {
        let entries = Set(runs.map(\.mark.entry))
        for _ in 0..<maximumRounds {
            let candidates = newProcesses(of: runs) ?? processes()
            let found = candidates.filter { environment(of: $0, holdsOneOf: entries) }
            if found.isEmpty { return }
            for process in found { kill(process, SIGKILL) }
        }
    }

    /// The process numbers that include all descendants of the programs; nil if any number is possible.
    private static func newProcesses(of runs: [Run]) -> [pid_t]? {
        let oldest = ContinuousClock.now - longestShortRun
        guard runs.allSatisfy({ $0.start > oldest }), let first = runs.map(\.program).min(),
            let last = lastProcess(), first <= last, last - first < maximumNumbers
        else { return nil }
        return Array(first...last)
    }

    /// The number that was last assigned to a process or thread.
    private static func lastProcess() -> pid_t? {
        let file = open("/proc/loadavg", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        return withUnsafeTemporaryAllocation(byteCount: 128, alignment: 1) { buffer in
            let count = read(file, buffer.baseAddress, buffer.count)
            guard count > 0 else { return nil }
            let text = String(decoding: UnsafeRawBufferPointer(rebasing: buffer[..<count]), as: UTF8.self)
            return text.split(whereSeparator: \.isWhitespace).last.flatMap { pid_t($0) }
        }
    }

    /// All processes of the machine that `/proc` shows to this user.
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
        // The kernel returns at most a page at a time, so an entry may be split between two reads.
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
