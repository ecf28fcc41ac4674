package import Breakwater
import CProcess
import Glibc

/// A process that leads its own session, with pipes for its streams.
///
/// Its owner reads and writes the pipes, which do not block, and ends with ``reap()`` and ``close()``.
package struct SpawnedProcess: Sendable {
    /// The number of descriptors that a process holds in this worker.
    package static let descriptors = 4
    /// A start needs both ends of three pipes, and the process descriptor.
    private static let descriptorsOfAStart = 7

    package let number: Int32
    package let mark: RunMark
    /// A time before the process was started.
    package let start: ContinuousClock.Instant
    /// The writing end of its standard input.
    package let input: Int32
    /// The reading ends of its standard output and standard error.
    package let output: Int32
    package let errors: Int32
    /// A descriptor that becomes readable when the process has exited.
    package let exit: Int32

    /// How a process ended.
    package enum Status: Sendable, Equatable {
        case exited(Int32)
        case signaled(Int32)
    }

    /// The reason why a process did not start.
    package struct StartFailure: Error, Sendable {
        package var failure: JobFailure
    }

    /// Starts a process of a program. If this process dies, the process group watchdog kills it.
    ///
    /// - Parameter variables: Variables that are added to the program's environment.
    /// - Throws: The reason, as a failure for ``JobOutcome/unable(_:)``: something that this worker lacks.
    package init(_ program: Program, variables: [String: String]) throws(StartFailure) {
        let action = "starting the program \(program.executable)"
        start = .now
        mark = RunMark()
        if let missing = DescriptorReserve.reserve(Self.descriptorsOfAStart) {
            throw StartFailure(missing, while: action)
        }
        defer { DescriptorReserve.giveBack(Self.descriptorsOfAStart) }
        var opened: [CInt] = []
        func giveUp(_ number: Int32) -> StartFailure {
            for descriptor in opened { Glibc.close(descriptor) }
            return StartFailure(number, while: action)
        }
        for _ in 0..<3 {
            var ends: [CInt] = [-1, -1]
            guard pipe2(&ends, O_CLOEXEC) == 0 else { throw giveUp(errno) }
            opened += ends
        }
        var environment = program.environment.merging(variables) { $1 }
        environment[RunMark.variable] = mark.text
        var process: pid_t = 0
        let error = Self.spawn(
            program,
            environment: environment,
            streams: (opened[0], opened[3], opened[5]),
            process: &process
        )
        guard error == 0 else {
            let failure = giveUp(error)
            if let directory = program.workingDirectory, access(directory, X_OK) != 0 {
                throw StartFailure(
                    failure: JobFailure(
                        "exec.workingDirectory",
                        "this worker cannot enter the directory \(directory): \(String(cString: strerror(error)))"
                    )
                )
            }
            throw failure
        }
        ProcessGroupWatchdog.shared.watch(process)
        number = process
        input = opened[1]
        output = opened[2]
        errors = opened[4]
        exit = breakwater_open_process(process)
        let exitError = errno
        // These ends are the program's.
        for descriptor in [opened[0], opened[3], opened[5]] { Glibc.close(descriptor) }
        for descriptor in [input, output, errors] {
            _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
        }
        if exit < 0 {
            // Without it the end of the process would be missed.
            signal(SIGKILL)
            _ = reap(waits: true)
            for descriptor in [input, output, errors] { Glibc.close(descriptor) }
            throw StartFailure(exitError, while: action)
        }
    }

    /// `POSIX_SPAWN_SETSID` of glibc and musl, which their headers define only with `_GNU_SOURCE`.
    private static let setSession: Int16 = 0x80

    private static func spawn(
        _ program: Program,
        environment: [String: String],
        streams: (input: CInt, output: CInt, errors: CInt),
        process: inout pid_t
    ) -> Int32 {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, streams.input, STDIN_FILENO)
        posix_spawn_file_actions_adddup2(&actions, streams.output, STDOUT_FILENO)
        posix_spawn_file_actions_adddup2(&actions, streams.errors, STDERR_FILENO)
        posix_spawn_file_actions_addclosefrom_np(&actions, 3)
        if let directory = program.workingDirectory { posix_spawn_file_actions_addchdir_np(&actions, directory) }

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // This process ignores SIGPIPE, and the calling thread may block signals. Programs expect neither.
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        sigfillset(&signals)
        posix_spawnattr_setsigdefault(&attributes, &signals)
        posix_spawnattr_setflags(
            &attributes,
            setSession | Int16(POSIX_SPAWN_SETSIGDEF) | Int16(POSIX_SPAWN_SETSIGMASK)
        )
        let arguments: [UnsafeMutablePointer<CChar>?] = program.command.map { strdup($0) } + [nil]
        let variables: [UnsafeMutablePointer<CChar>?] = environment.map { strdup("\($0)=\($1)") } + [nil]
        defer { for text in arguments + variables { free(text) } }
        return posix_spawn(&process, program.executable, &actions, &attributes, arguments, variables)
    }

    /// Signals the process and those that it started.
    package func signal(_ signal: Int32) { kill(-number, signal) }

    /// Collects the exit status, and kills the processes that the exited one left behind.
    ///
    /// - Returns: The status; nil if the process still runs.
    package func reap() -> Status? { reap(waits: false) }

    private func reap(waits: Bool) -> Status? {
        var information = siginfo_t()
        let flags = WEXITED | WNOWAIT | (waits ? 0 : WNOHANG)
        guard waitid(P_PID, id_t(number), &information, flags) == 0, information.si_signo == SIGCHLD else {
            return nil
        }
        // The exited process is not yet reaped, so its group's number cannot have been reused.
        signal(SIGKILL)
        ProcessGroupWatchdog.shared.forget(number)
        var status: Int32 = 0
        while waitpid(number, &status, 0) < 0 {
            if errno != EINTR { return .exited(0) }
        }
        return status & 0x7f == 0 ? .exited((status >> 8) & 0xff) : .signaled(status & 0x7f)
    }

    /// The resident memory in bytes; nil if it cannot be read.
    package var memory: Int? {
        let file = open("/proc/\(number)/statm", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { Glibc.close(file) }
        return withUnsafeTemporaryAllocation(byteCount: 128, alignment: 1) { buffer in
            let count = read(file, buffer.baseAddress, buffer.count)
            guard count > 0 else { return nil }
            let text = String(decoding: UnsafeRawBufferPointer(rebasing: buffer[..<count]), as: UTF8.self)
            // The second number is that of the resident pages.
            return text.split(separator: " ").dropFirst().first.flatMap { Int($0) }.map { $0 * Int(getpagesize()) }
        }
    }
}

extension SpawnedProcess.StartFailure {
    fileprivate init(_ number: Int32, while action: String) {
        failure =
            JobFailure(limit: number, while: action)
            ?? JobFailure(
                number == ENOENT ? "exec.notFound" : "exec.spawn",
                "\(action) failed: \(String(cString: strerror(number)))"
                    + (number == ENOENT ? " (is it, or its interpreter, gone from this worker?)" : "")
            )
    }
}
