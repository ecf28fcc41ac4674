import Breakwater
import BreakwaterProcess
import CProcess
import Glibc
import Logging

/// One program while it runs. Only the thread of ``ProgramLoop`` uses this object.
final class ProgramRun {
    /// A program to run.
    struct Program: Sendable {
        var executable: String
        /// The program's name and its arguments.
        var words: [String]
        /// The variables, each as `NAME=value`.
        var environment: [String]
        var workingDirectory: String?
        var input: [UInt8]
        var maxOutputBytes: Int
        var killAfter: Duration
        var logger: Logger
        /// Where the program's progress is reported; nil if it reports none.
        var reports: RunReports?
    }

    /// How a program ended, and what it wrote.
    struct Ending: Sendable {
        var status: SpawnedProcess.Status
        var output: BoundedOutput
        var errorTail: String
        var process: pid_t
        /// A time before the program was started.
        var start: ContinuousClock.Instant
        /// Whether it was asked to end.
        var wasStopped: Bool
    }

    /// The reason why a program did not start.
    struct Failure: Error { var number: Int32 }

    /// A start needs both ends of each pipe and the process's descriptor.
    private static func descriptorsOfStart(_ program: Program) -> Int { program.reports == nil ? 7 : 9 }
    /// The most bytes that are read at once.
    private static let chunk = 64 << 10
    /// After the exit, at most a pipe's content of the program's own output remains. Anything more was written by
    /// processes that it left behind.
    private static let remainingAfterExit = 1 << 20

    /// The descriptors that are waited for.
    private enum Source: UInt64, CaseIterable { case exit, input, output, error, progress }

    private let id: UInt64
    private let set: Int32
    private let killAfter: Duration
    private let start: ContinuousClock.Instant
    private var process: pid_t = 0
    private var descriptors: [Int32] = [-1, -1, -1, -1, -1]
    private var input: [UInt8]
    private var written = 0
    private var output: BoundedOutput
    private var errors: ErrorLog
    private var progress: ProgressLines?
    private var wasStopped = false
    /// When the program is killed, if it was asked to end.
    private(set) var killTime: ContinuousClock.Instant?

    /// The number of the run whose descriptor has this name.
    static func id(of name: UInt64) -> UInt64 { name >> 3 }

    /// Starts a program.
    static func start(_ program: Program, id: UInt64, set: Int32) -> Result<ProgramRun, Failure> {
        let descriptors = descriptorsOfStart(program)
        if let number = DescriptorReserve.reserve(descriptors) { return .failure(Failure(number: number)) }
        defer { DescriptorReserve.giveBack(descriptors) }
        let run = ProgramRun(program, id: id, set: set)
        let number = run.start(program)
        guard number == 0 else {
            for source in Source.allCases { run.close(source) }
            return .failure(Failure(number: number))
        }
        return .success(run)
    }

    private init(_ program: Program, id: UInt64, set: Int32) {
        self.id = id
        self.set = set
        killAfter = program.killAfter
        input = program.input
        output = BoundedOutput(limit: program.maxOutputBytes)
        errors = ErrorLog(logger: program.logger)
        progress = program.reports.map { ProgressLines($0, logger: program.logger) }
        start = .now
    }

    /// Returns 0, or an error number.
    private func start(_ program: Program) -> Int32 {
        let sources: [Source] = [.input, .output, .error] + (progress == nil ? [] : [.progress])
        var streams = [Int32](repeating: -1, count: sources.count)
        defer { for stream in streams where stream >= 0 { Glibc.close(stream) } }
        for (place, source) in sources.enumerated() {
            var ends: [Int32] = [-1, -1]
            let number = breakwater_make_pipe(&ends)
            guard number == 0 else { return number }
            // The program reads its input, and writes the others.
            streams[place] = source == .input ? ends[0] : ends[1]
            let own = source == .input ? ends[1] : ends[0]
            self[source] = own
            guard breakwater_never_block(own) == 0 else { return errno }
        }
        // Most inputs fit into the pipe, so that nothing has to be waited for.
        writeInput()
        let number = startProgram(
            program.executable,
            arguments: program.words,
            environment: program.environment,
            directory: program.workingDirectory,
            streams: streams,
            process: &process
        )
        guard number == 0 else { return number }
        self[.exit] = breakwater_open_process(process)
        guard self[.exit] >= 0 else { return abandon(errno) }
        ProcessGroupWatchdog.shared.watch(process)
        for source in Source.allCases where self[source] >= 0 {
            let events = source == .input ? EPOLLOUT : EPOLLIN
            guard breakwater_watch(set, EPOLL_CTL_ADD, self[source], events.rawValue, name(source)) == 0 else {
                let number = errno
                ProcessGroupWatchdog.shared.forget(process)
                return abandon(number)
            }
        }
        return 0
    }

    /// Kills a program that runs but cannot be watched.
    private func abandon(_ number: Int32) -> Int32 {
        killGroup()
        _ = reap()
        return number
    }

    private func name(_ source: Source) -> UInt64 { id << 3 | source.rawValue }

    private subscript(source: Source) -> Int32 {
        get { descriptors[Int(source.rawValue)] }
        set { descriptors[Int(source.rawValue)] = newValue }
    }

    private func close(_ source: Source) {
        guard self[source] >= 0 else { return }
        _ = breakwater_watch(set, EPOLL_CTL_DEL, self[source], 0, 0)
        Glibc.close(self[source])
        self[source] = -1
    }

    // MARK: While it runs

    /// Serves a descriptor that is ready. Returns how the program ended, if it has.
    func serve(_ name: UInt64) -> Ending? {
        switch Source(rawValue: name & 7) {
        case .exit: return end()
        case .input: writeInput()
        case .output: _ = read(.output)
        case .error: _ = read(.error)
        case .progress: _ = read(.progress)
        case nil: break
        }
        return nil
    }

    /// Writes as much of the input as fits into the pipe. A program need not read its input, so a broken pipe is no
    /// failure of the job.
    private func writeInput() {
        while written < input.count {
            let count = input.withUnsafeBytes { bytes in
                // A byte is left, so the buffer has an address.
                Glibc.write(self[.input], bytes.baseAddress! + written, bytes.count - written)
            }
            if count > 0 {
                written += count
            } else if errno == EAGAIN {
                return
            } else if errno != EINTR {
                break
            }
        }
        close(.input)
        input = []
    }

    /// Reads once from a stream. Returns how many bytes there were.
    private func read(_ source: Source) -> Int {
        guard self[source] >= 0 else { return 0 }
        return withUnsafeTemporaryAllocation(byteCount: Self.chunk, alignment: 1) { buffer in
            let count = Glibc.read(self[source], buffer.baseAddress, buffer.count)
            guard count > 0 else {
                if count == 0 || (errno != EAGAIN && errno != EINTR) { close(source) }
                return 0
            }
            let bytes = Array(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
            switch source {
            case .output: output.append(bytes)
            case .progress: progress?.append(bytes)
            default: errors.append(bytes)
            }
            return count
        }
    }

    /// Asks the program and the processes of its group to end.
    func stop() {
        guard !wasStopped else { return }
        wasStopped = true
        killTime = .now + killAfter
        kill(-process, SIGTERM)
        killIfDue()
    }

    /// Kills the program if it was asked to end and has had its time.
    func killIfDue() {
        guard let time = killTime, time <= .now else { return }
        killTime = nil
        killGroup()
    }

    /// Kills the program and the processes of its group. The program leads its own session, and so its own group.
    private func killGroup() { kill(-process, SIGKILL) }

    // MARK: The end

    private func end() -> Ending {
        for source in [Source.output, .error, .progress] {
            var remaining = Self.remainingAfterExit
            while remaining > 0 {
                let count = read(source)
                if count == 0 { break }
                remaining -= count
            }
        }
        progress?.finish()
        // The exited program is not yet reaped, so its group's number cannot have been reused.
        killGroup()
        ProcessGroupWatchdog.shared.forget(process)
        let status = reap()
        for source in Source.allCases { close(source) }
        return Ending(
            status: status,
            output: output,
            errorTail: errors.finish(),
            process: process,
            start: start,
            wasStopped: wasStopped
        )
    }

    private func reap() -> SpawnedProcess.Status {
        var status: Int32 = 0
        while waitpid(process, &status, 0) < 0 {
            // Another part of the program has reaped it, so that how it ended is unknown.
            if errno != EINTR { return .signaled(SIGKILL) }
        }
        let signal = status & 0x7F
        return signal == 0 ? .exited((status >> 8) & 0xFF) : .signaled(signal)
    }
}
