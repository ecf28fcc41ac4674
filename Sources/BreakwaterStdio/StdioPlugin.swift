public import Breakwater
import BreakwaterProcess
import Glibc
public import Logging
import Synchronization

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
public struct StdioPlugin: HandlerPlugin {
    private let host: ProcessHost
    private let deadlines = DeadlineTexts()

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
        let line = WorkerMessage.run(run, job, deadline: deadlines.text(after: context.remainingTime))
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

/// Makes the texts of deadlines. Formatting a date takes longer than the rest of a job's message, so the text of each
/// second is made once.
private final class DeadlineTexts: Sendable {
    private let last = Mutex<(second: Int, text: String)>((0, ""))

    /// The time after a duration from now, in the format of RFC 3339 in UTC with milliseconds.
    func text(after remaining: Duration) -> String {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        let (seconds, attoseconds) = remaining.components
        var second = now.tv_sec + Int(seconds)
        var millisecond = now.tv_nsec / 1_000_000 + Int(attoseconds / 1_000_000_000_000_000)
        if millisecond >= 1000 {
            second += 1
            millisecond -= 1000
        }
        let prefix = last.withLock { last in
            if last.second != second { last = (second, Self.text(of: second)) }
            return last.text
        }
        let digits = String(millisecond)
        return prefix + (millisecond < 10 ? ".00" : millisecond < 100 ? ".0" : ".") + digits + "Z"
    }

    private static func text(of second: Int) -> String {
        var second = second
        var parts = tm()
        gmtime_r(&second, &parts)
        func padded(_ number: Int32, _ width: Int) -> String {
            let digits = String(number)
            return String(repeating: "0", count: max(0, width - digits.count)) + digits
        }
        let date = "\(padded(parts.tm_year + 1900, 4))-\(padded(parts.tm_mon + 1, 2))-\(padded(parts.tm_mday, 2))"
        return "\(date)T\(padded(parts.tm_hour, 2)):\(padded(parts.tm_min, 2)):\(padded(parts.tm_sec, 2))"
    }
}
