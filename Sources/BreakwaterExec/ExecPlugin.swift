public import Breakwater
import BreakwaterProcess

/// Runs each job as a separate process.
///
/// The process reads the job's payload from standard input. Its exit status determines the outcome:
///
/// | exit status | outcome |
/// |---|---|
/// | 0 | succeeded; what is on standard output is the result |
/// | 65 (`EX_DATAERR`) | discarded |
/// | 69 (`EX_UNAVAILABLE`) | unavailable |
/// | 79 | throttled |
/// | 80 | snoozed, if standard output says for how long; else failed |
/// | 75 (`EX_TEMPFAIL`) and any other, or a signal | failed |
/// | none: there is no such program or working directory, or no descriptor, process or memory for it | unable |
///
/// With 69, 79 and 80 the program may say when the job runs again: `{"retry_after": 30}` on standard output, in
/// seconds, up to ten years. Other members of the JSON object are ignored.
///
/// A result that is a JSON value is kept as it is. Other text becomes a JSON string, and no output is no result. Each
/// line of standard error is logged, and the last lines are the message of a failure.
///
/// With `reportsProgress`, the program may write lines of JSON to the descriptor 3, whose number is also in
/// `BREAKWATER_PROGRESS_FD`: `{"fraction": 0.5, "note": "page 3"}` and `{"checkpoint": {"page": 3}}`. See
/// ``JobContext/report(fraction:note:)`` and ``JobContext/saveCheckpoint(_:)``. What cannot be used is ignored and logged.
/// The last checkpoint of an earlier run is in `BREAKWATER_CHECKPOINT` as JSON, also without `reportsProgress`.
///
/// No shell is used: the words of the command are passed to the program unchanged. The environment holds only the
/// configured variables and the `BREAKWATER_` variables of the job. The program leads its own session, and the job ends
/// with its program: processes that it left behind are killed, and their further output is not awaited. They are found
/// by their process group or, if they left it (`setsid`, daemons), by `BREAKWATER_RUN_ID` in their environment. A
/// process that left its session and cleared its environment, or became another user, is not found. If the worker is
/// killed, a small `/bin/sh` process beside it kills its programs.
///
/// ```swift
/// let digest = try ExecPlugin(command: ["sha256sum"])
/// ```
public struct ExecPlugin: SuspendingPlugin {
    let program: Program
    let maxOutputBytes: Int
    let killAfter: Duration
    let reportsProgress: Bool

    /// A plugin that runs this command for each job.
    ///
    /// - Parameters:
    ///   - command: The program and its arguments. A program without a slash is searched for in `PATH`. A relative path
    ///     is relative to the working directory.
    ///   - environment: Variables set for the program. They take precedence over inherited ones. Defaults to none.
    ///   - inherit: The variables that the program inherits from the worker if the worker has them. Defaults to `PATH`,
    ///     `HOME`, `LANG`, `TZ` and `TMPDIR`.
    ///   - workingDirectory: The directory that the program runs in. Defaults to the worker's.
    ///   - maxOutputBytes: How many bytes of standard output are kept as the result. The rest is read and dropped.
    ///     Defaults to 1 MiB.
    ///   - killAfter: How long a cancelled job's processes have between SIGTERM and SIGKILL. Defaults to 5 seconds.
    ///   - reportsProgress: Whether the program may report its progress and checkpoints on the descriptor 3. Defaults to
    ///     false, because each run then needs another pipe.
    /// - Throws: ``ExecPluginError`` when there is no such program or directory, or a value is not allowed.
    public init(
        command: [String],
        environment: [String: String] = [:],
        inherit: [String] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"],
        workingDirectory: String? = nil,
        maxOutputBytes: Int = 1 << 20,
        killAfter: Duration = .seconds(5),
        reportsProgress: Bool = false
    ) throws {
        guard maxOutputBytes > 0 else {
            throw ExecPluginError(.invalidLimit, "maxOutputBytes is \(maxOutputBytes): it must be at least 1")
        }
        guard killAfter >= .zero else {
            throw ExecPluginError(.invalidLimit, "killAfter is \(killAfter): it must not be negative")
        }
        do {
            program = try Program(
                command: command,
                environment: environment,
                inherit: inherit,
                workingDirectory: workingDirectory
            )
        } catch {
            throw ExecPluginError(error)
        }
        self.maxOutputBytes = maxOutputBytes
        self.killAfter = killAfter
        self.reportsProgress = reportsProgress
    }

    /// Runs the command for one job and derives the outcome from its exit status.
    ///
    /// - Throws: `CancellationError` once the processes of a cancelled job have ended.
    public func run(_ job: Job, context: JobContext) async throws -> JobOutcome {
        try Task.checkCancellation()
        let child = ChildProcess(
            executable: program.executable,
            command: program.command,
            environment: program.environment.merging(jobEnvironment(job, context: context)) { $1 },
            workingDirectory: program.workingDirectory,
            input: Array(job.payload.utf8),
            maxOutputBytes: maxOutputBytes,
            killAfter: killAfter,
            logger: context.logger,
            reports: reportsProgress ? context.reports ?? RunReports() : nil
        )
        switch try await child.run() {
        case .ended(let ending):
            return outcome(of: ending, logger: context.logger)
        case .notStarted(let failure):
            return .failed(failure)
        case .unable(let failure):
            return .unable(failure)
        }
    }
}
