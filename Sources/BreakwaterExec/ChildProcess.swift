import Breakwater
import BreakwaterProcess
import Glibc
import Logging
import Subprocess
import SystemPackage

/// One run of a program. It writes the program's input, reads its output, and ends it together with the processes that
/// it started.
///
/// The pipes belong to swift-subprocess, whose own threads wait for them and for the exit. Once the program has exited,
/// swift-subprocess ends the streams, even if a remaining process still holds the pipes open.
struct ChildProcess: Sendable {
    var executable: String
    var command: [String]
    var environment: [String: String]
    /// The mark in the environment of all its processes.
    let mark = RunMark()
    var workingDirectory: String?
    var input: [UInt8]
    var maxOutputBytes: Int
    var killAfter: Duration
    var logger: Logger

    /// How a program ended, and what it wrote.
    struct Ending: Sendable {
        var status: TerminationStatus
        var output: BoundedOutput
        var errorTail: String
    }

    enum Outcome: Sendable {
        case ended(Ending)
        /// The program did not run.
        case notStarted(JobFailure)
        /// The program did not run because this worker lacks something.
        case unable(JobFailure)
    }

    /// Runs the program to its end.
    ///
    /// The run itself is in a task that is never cancelled, because a cancelled task could neither wait for the program
    /// to end nor read its remaining output. Cancellation of the caller is passed to it as a message.
    ///
    /// - Throws: `CancellationError` when the caller was cancelled and the program was asked to end.
    func run() async throws -> Outcome {
        let (stops, stop) = AsyncStream.makeStream(of: Void.self)
        let run = Task { try await start(stops: stops) }
        return try await withTaskCancellationHandler {
            try await run.value
        } onCancel: {
            stop.yield()
        }
    }

    private func start(stops: AsyncStream<Void>) async throws -> Outcome {
        var options = PlatformOptions()
        options.createSession = true
        let begun: ProgramStarts.Start
        do {
            begun = try await ProgramStarts.shared.begin(startingProgram)
        } catch {
            return .unable(error)
        }
        defer { begun.end(isRunning: false) }
        let start = ContinuousClock.now
        let result: ExecutionResult<Captured, SequenceOutput, SequenceOutput>
        do {
            result = try await Subprocess.run(
                .path(FilePath(executable)),
                arguments: Arguments(executablePathOverride: command[0], remainingValues: Array(command.dropFirst())),
                environment: .custom(
                    Dictionary(
                        environment.map { (Environment.Key(stringLiteral: $0), $1) }
                            + [(Environment.Key(stringLiteral: RunMark.variable), mark.text)]
                    ) { $1 }
                ),
                workingDirectory: workingDirectory.map { FilePath($0) },
                platformOptions: options,
                input: .inputWriter,
                output: .sequence,
                error: .sequence
            ) { execution in
                begun.end(isRunning: true)
                return await supervise(execution, startedAfter: start, stops: stops)
            }
        } catch let error as SubprocessError {
            return outcome(of: error)
        }
        let captured = result.closureResult
        if captured.wasStopped { throw CancellationError() }
        return .ended(Ending(status: result.terminationStatus, output: captured.output, errorTail: captured.errorTail))
    }

    /// What a program wrote while it ran.
    private struct Captured: Sendable {
        var output = BoundedOutput(limit: 0)
        var errorTail = ""
        var wasStopped = false
    }

    private enum Finished: Sendable {
        case output(BoundedOutput)
        case error(String)
        case fed
        case stopped(Bool)
    }

    private typealias Child = Execution<CustomWriteInput, SequenceOutput, SequenceOutput>

    /// Writes the program's input and reads its output until it has exited, then kills the processes that it left
    /// behind.
    ///
    /// - Parameter start: A time before the program was started.
    private func supervise(
        _ child: Child,
        startedAfter start: ContinuousClock.Instant,
        stops: AsyncStream<Void>
    ) async -> Captured {
        // The program leads its own session, and so its own process group.
        ProcessGroupWatchdog.shared.watch(child.processIdentifier.value)
        return await withTaskGroup(of: Finished.self) { group in
            group.addTask {
                // A program need not read its input, so a broken pipe is no failure of the job.
                _ = try? await child.standardInputWriter.write(input)
                try? await child.standardInputWriter.finish()
                return .fed
            }
            group.addTask {
                var output = BoundedOutput(limit: maxOutputBytes)
                await read(child.standardOutput, of: child) { output.append($0) }
                return .output(output)
            }
            group.addTask {
                var log = ErrorLog(logger: logger)
                await read(child.standardError, of: child) { log.append($0) }
                return .error(log.finish())
            }
            group.addTask {
                guard await stops.first(where: { _ in true }) != nil, !child.hasExited else { return .stopped(false) }
                await child.teardown(
                    using: [.gracefulShutDown(toProcessGroup: true, allowedDurationToNextStep: killAfter)]
                )
                return .stopped(true)
            }

            var captured = Captured()
            var streams = 2
            while let finished = await group.next() {
                switch finished {
                case .output(let output): captured.output = output
                case .error(let tail): captured.errorTail = tail
                case .stopped(let wasStopped): captured.wasStopped = wasStopped
                case .fed: break
                }
                switch finished {
                case .output, .error: streams -= 1
                case .stopped, .fed: continue
                }
                if streams == 0 {
                    await child.waitForExit()
                    // The exited program is not yet reaped, so its group's number cannot have been reused.
                    try? child.send(signal: .kill, toProcessGroup: true)
                    ProcessGroupWatchdog.shared.forget(child.processIdentifier.value)
                    await StrayProcessReaper.shared.killProcesses(
                        of: StrayProcessReaper.Run(mark: mark, program: child.processIdentifier.value, start: start)
                    )
                    group.cancelAll()
                }
            }
            return captured
        }
    }

    /// Reads a stream to its end, or as far as the program itself can have written.
    private func read(_ stream: SubprocessOutputSequence, of child: Child, into consume: ([UInt8]) -> Void) async {
        // After the exit, at most a pipe's content of the program's output remains. Anything more was written by
        // processes that it left behind.
        var remainingAfterExit = 1 << 20
        var iterator = stream.makeAsyncIterator()
        while remainingAfterExit > 0 {
            let hadExited = child.hasExited
            guard let buffer = try? await iterator.next() else { return }
            if hadExited { remainingAfterExit -= buffer.count }
            consume(buffer.withUnsafeBytes { Array($0) })
            // If a program writes faster than this reads, the task never suspends. Yielding lets other tasks use the
            // thread.
            await Task.yield()
        }
    }

    private var startingProgram: String { "starting the program \(executable)" }

    /// The outcome when the program did not run.
    private func outcome(of error: SubprocessError) -> Outcome {
        if let number = error.underlyingError?.rawValue, let failure = JobFailure(limit: number, while: startingProgram)
        {
            return .unable(failure)
        }
        return switch error.code {
        case .executableNotFound:
            .unable(
                JobFailure(
                    "exec.notFound",
                    "the program \(executable) could not be run: is it, or its interpreter, gone from this worker?"
                )
            )
        case .failedToChangeWorkingDirectory:
            .unable(
                JobFailure(
                    "exec.workingDirectory",
                    "this worker cannot enter the directory \(workingDirectory ?? ""): \(error)"
                )
            )
        default:
            .notStarted(JobFailure("exec.spawn", "the program \(executable) could not be run: \(error)"))
        }
    }
}

extension Execution {
    /// Whether the program has exited. It stays a zombie until `run` reaps it.
    fileprivate var hasExited: Bool {
        var information = siginfo_t()
        let options = WEXITED | WNOHANG | WNOWAIT
        guard waitid(P_PID, id_t(processIdentifier.value), &information, options) == 0 else { return errno == ECHILD }
        return information.si_signo == SIGCHLD
    }

    /// Waits until the program has exited. Usually it has already, because its streams have ended.
    fileprivate func waitForExit() async {
        var pause = Duration.microseconds(100)
        while !hasExited {
            try? await Task.sleep(for: pause)
            pause = min(pause * 2, .milliseconds(50))
        }
    }
}
