public import Breakwater
import BreakwaterProcess
public import Logging

/// Runs jobs in a pool of long-lived processes of one command, which read and write lines of JSON.
///
/// A process reads jobs from standard input and writes their outcomes to standard output; standard error is log. The
/// protocol is documented in the article "Handlers in any language". No program is started for a job, so this suits
/// programs that take long to start, and jobs that are short.
///
/// A process leads its own session. If it crashes, the jobs that it was running fail, under the name `exit.N` or
/// `signal.N`; jobs that it had not started run in another. A process that breaks the protocol (`stdio.protocol`),
/// floods its output (`stdio.flood`) or is silent (`stdio.silent`) is ended, with the same consequence. If no process
/// can be started, jobs are `unable`: they spend no attempt.
///
/// ```swift
/// var settings = StdioSettings()
/// settings.processes = 4
/// let score = try StdioPlugin(command: ["python3", "score.py"], settings: settings)
/// ```
///
/// A worker starts the processes when it starts, and ends them after its last run. Without a worker, the first run
/// starts them; call ``stop()`` at the end.
public struct StdioPlugin: SuspendingPlugin {
    private let host: ProcessHost

    /// A plugin with a pool of processes of this command.
    ///
    /// - Parameters:
    ///   - command: The program and its arguments. A program without a slash is searched for in `PATH`. A relative path
    ///     is relative to the working directory.
    ///   - environment: Variables set for the program. They take precedence over inherited ones. Defaults to none.
    ///   - inherit: The variables that the program inherits from the worker if the worker has them. Defaults to `PATH`,
    ///     `HOME`, `LANG`, `TZ` and `TMPDIR`.
    ///   - workingDirectory: The directory that the program runs in. Defaults to the worker's.
    ///   - settings: The number of processes, and their limits.
    /// - Throws: ``StdioPluginError`` when there is no such program or directory, or a value is not allowed.
    public init(
        command: [String],
        environment: [String: String] = [:],
        inherit: [String] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"],
        workingDirectory: String? = nil,
        settings: StdioSettings = StdioSettings()
    ) throws {
        if let fault = settings.fault { throw StdioPluginError(.invalidSetting, fault) }
        let program: Program
        do {
            program = try Program(
                command: command,
                environment: environment,
                inherit: inherit,
                workingDirectory: workingDirectory
            )
        } catch {
            throw StdioPluginError(error)
        }
        host = ProcessHost(program, settings)
    }

    /// The number of jobs that all processes take at once.
    public var capacity: Int? { host.settings.capacity }

    /// Starts the processes.
    public func start(logger: Logger) async { host.start(logger: logger) }

    /// Ends the processes, and returns when they have ended. Later jobs are released, until the plugin is started again.
    public func stop() async { await host.stop() }

    /// Runs one job in a process of the pool.
    ///
    /// - Throws: `CancellationError` once the process has ended a cancelled run, or was ended for it.
    public func run(_ job: Job, context: JobContext) async throws -> JobOutcome {
        try Task.checkCancellation()
        let run = host.nextRun()
        let line = WorkerMessage.run(run, job, deadline: context.deadlineText)
        let ending = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                host.submit(run, line, ProcessHost.Caller(context: context, continuation: continuation))
                // The task may have been cancelled before the pool had the run.
                if Task.isCancelled { host.cancel(run) }
            }
        } onCancel: {
            host.cancel(run)
        }
        switch ending {
        case .outcome(let outcome): return outcome
        case .cancelled: throw CancellationError()
        }
    }

    /// The process ids of the processes that run now.
    package var processes: [Int32] { host.processes }
}
