import Breakwater
import Logging
import Synchronization

/// One run of a job, which the suite observes.
final class ObservedRun: Sendable {
    enum End: Sendable {
        case outcome(JobOutcome)
        /// It threw `CancellationError`.
        case cancellation
        /// It threw another error.
        case error(any Error)
    }

    let job: Job
    let deadline: ContinuousClock.Instant
    let reports = RunReports()
    let log = RecordedLog()
    private let state = Mutex<(end: End?, task: Task<Void, Never>?)>((nil, nil))

    init(_ job: Job, deadline: ContinuousClock.Instant) {
        self.job = job
        self.deadline = deadline
    }

    /// Starts the run.
    ///
    /// - Parameters:
    ///   - plugin: Runs the job.
    ///   - isCancelled: Whether the run is cancelled before it begins.
    ///   - tokens: Gets the token that the run's task and context hold.
    ///   - prepare: Gives the run what only a worker can give.
    func start(
        on plugin: any HandlerPlugin,
        isCancelled: Bool,
        _ tokens: RunTokens,
        prepare: @Sendable (Job, inout JobContext) async throws -> Job
    ) async throws {
        let token = tokens.make()
        var logger = Logger(label: "conformance") { [log] _ in TokenLogHandler(token: token, base: log.logger().handler)
        }
        logger.logLevel = .trace
        var context = JobContext(job: job, deadline: deadline, logger: logger)
        context.reports = reports
        let prepared = try await prepare(job, &context)
        context.job = prepared
        // Unstructured, so that a run that never ends does not hold up the suite.
        let task = Task { [context] in
            if isCancelled { withUnsafeCurrentTask { $0?.cancel() } }
            let end = await RunToken.$current.withValue(token) { await Self.end(of: prepared, context, on: plugin) }
            state.withLock { $0 = (end, nil) }
        }
        state.withLock { if $0.end == nil { $0.task = task } }
    }

    private static func end(of job: Job, _ context: JobContext, on plugin: any HandlerPlugin) async -> End {
        do {
            return .outcome(try await plugin.run(job, context: context))
        } catch is CancellationError {
            return .cancellation
        } catch {
            return .error(error)
        }
    }

    func cancel() { state.withLock { $0.task?.cancel() } }

    /// How the run ended; nil while it goes on.
    var end: End? { state.withLock { $0.end } }

    /// How the run ended; nil if it still goes on after this long.
    func end(within patience: Duration) async -> End? {
        await isTrue(within: patience) { end != nil }
        return end
    }
}

/// Waits until a condition holds, which is checked every 5 ms.
///
/// The wait also ends only after a fourth of the checks that fit into it. So it is longer where this process's tasks
/// hardly get a thread, and so the tasks that are waited for.
///
/// - Returns: Whether it holds.
@discardableResult
func isTrue(within patience: Duration, _ condition: () -> Bool) async -> Bool {
    let end = ContinuousClock.now + patience
    var checks = Int(patience / .milliseconds(20))
    while !condition() {
        guard .now < end || checks > 0 else { return condition() }
        checks -= 1
        // If the suite's own task is cancelled, there is no sleep.
        if (try? await Task.sleep(for: .milliseconds(5))) == nil { await Task.yield() }
    }
    return true
}

/// What the tasks and the context of one run hold, so that the suite sees which of them are left after the run.
final class RunToken: Sendable {
    /// The token of the run to which a task belongs. Tasks that a run starts inherit it.
    @TaskLocal static var current: RunToken?
}

/// The tokens of all runs.
final class RunTokens: Sendable {
    private struct Reference {
        weak var token: RunToken?
    }

    private let references = Mutex<[Reference]>([])

    func make() -> RunToken {
        let token = RunToken()
        references.withLock { $0.append(Reference(token: token)) }
        return token
    }

    /// How many runs are still held.
    var held: Int { references.withLock { references in references.count { $0.token != nil } } }
}

/// A log handler that holds a token. So the token lives as long as anything keeps the run's logger.
private struct TokenLogHandler: LogHandler {
    let token: RunToken
    var base: any LogHandler

    var logLevel: Logger.Level {
        get { base.logLevel }
        set { base.logLevel = newValue }
    }

    var metadata: Logger.Metadata {
        get { base.metadata }
        set { base.metadata = newValue }
    }

    func log(event: LogEvent) { base.log(event: event) }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { base[metadataKey: key] }
        set { base[metadataKey: key] = newValue }
    }
}
