import Breakwater
import CProcess
import Glibc

/// A process that leads its own session, with pipes for its streams.
///
/// Its owner reads and writes the pipes, which do not block, calls ``reap()`` when the process has exited, and closes the
/// descriptors.
package struct SpawnedProcess: Sendable {
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

    /// Starts a process of a program. If this process dies, the process group watchdog kills it.
    ///
    /// - Parameter variables: Variables that are added to the program's environment.
    /// - Throws: The reason, as a failure for ``JobOutcome/unable(_:)``: something that this worker lacks.
    package init(_ program: Program, variables: [String: String]) throws(StartFailure) {
        func failure(_ number: Int32) -> StartFailure {
            StartFailure(number, of: program.executable, in: program.workingDirectory)
        }
        start = .now
        mark = RunMark()
        if let missing = DescriptorReserve.reserve(Self.descriptorsOfAStart) { throw failure(missing) }
        defer { DescriptorReserve.giveBack(Self.descriptorsOfAStart) }
        var opened: [CInt] = []
        func giveUp(_ number: Int32) -> StartFailure {
            for descriptor in opened { Glibc.close(descriptor) }
            return failure(number)
        }
        for _ in 0..<3 {
            var ends: [CInt] = [-1, -1]
            let error = breakwater_make_pipe(&ends)
            guard error == 0 else { throw giveUp(error) }
            opened += ends
        }
        for descriptor in [opened[1], opened[2], opened[4]] {
            guard breakwater_never_block(descriptor) == 0 else { throw giveUp(errno) }
        }
        var environment = program.environment.merging(variables) { $1 }
        environment[RunMark.variable] = mark.text
        var process: Int32 = 0
        let error = startProgram(
            program.executable,
            arguments: program.command,
            environment: environment.map { "\($0)=\($1)" },
            directory: program.workingDirectory,
            streams: [opened[0], opened[3], opened[5]],
            process: &process
        )
        guard error == 0 else { throw giveUp(error) }
        ProcessGroupWatchdog.shared.watch(process)
        number = process
        input = opened[1]
        output = opened[2]
        errors = opened[4]
        exit = breakwater_open_process(process)
        let exitError = errno
        // These ends are the program's.
        for descriptor in [opened[0], opened[3], opened[5]] { Glibc.close(descriptor) }
        if exit < 0 {
            // Without it the end of the process would be missed.
            signal(SIGKILL)
            _ = reap(waits: true)
            for descriptor in [input, output, errors] { Glibc.close(descriptor) }
            throw failure(exitError)
        }
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
        while waitid(P_PID, id_t(number), &information, flags) != 0 {
            if errno == EINTR { continue }
            // Another part of the program has reaped it, so that how it ended is unknown, and its group's number may
            // have been reused.
            ProcessGroupWatchdog.shared.forget(number)
            return .signaled(SIGKILL)
        }
        guard information.si_signo == SIGCHLD else { return nil }
        // The exited process is not yet reaped, so its group's number cannot have been reused.
        signal(SIGKILL)
        ProcessGroupWatchdog.shared.forget(number)
        var status: Int32 = 0
        while waitpid(number, &status, 0) < 0 {
            if errno != EINTR { return .signaled(SIGKILL) }
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
