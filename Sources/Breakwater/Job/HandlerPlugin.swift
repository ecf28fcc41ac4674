public import Logging

/// A type that runs the jobs of a kind: by a program, an HTTP endpoint or Swift code.
///
/// A worker calls ``start(logger:)`` when it starts, `run` once for each claimed job, many at a time, and ``stop()`` after
/// its last run. A plugin keeps these rules; `PluginConformance` of the module `BreakwaterTesting` checks them, and the
/// article <doc:HandlerPlugins> explains them with an example.
///
/// - **Cancellation** means that the timeout is exceeded, the lease is lost, a user cancels the job or the worker shuts
///   down. The run then ends soon, leaves nothing running, and throws `CancellationError`, also if it is cancelled before
///   it begins. It returns a success only if its work is done.
/// - **Results** are one JSON value that Postgres can store, and of a bounded size.
/// - **Failures** have a stable name and a message for people. The name is not that of a job, a host or a user.
/// - **Progress** goes to ``JobContext/report(fraction:note:)`` and ``JobContext/saveCheckpoint(_:)`` of the run's own
///   context.
/// - **Nothing is left**: after ``stop()`` the plugin holds no task, no descriptor, no process and no run's context.
public protocol HandlerPlugin: Sendable {
    /// Runs one job.
    ///
    /// - Parameters:
    ///   - job: The job, with its payload as JSON text.
    ///   - context: The deadline, a logger that carries the job's identity, and where the run reports its progress.
    /// - Returns: The outcome of the run. That of a cancelled run counts only if it is a success.
    /// - Throws: `CancellationError` if the run was cancelled, and only then. Any other error counts as
    ///   ``JobOutcome/failed(_:)`` under the name of its type, or as ``JobOutcome/unable(_:)`` if it says that this
    ///   process has no descriptors or memory left.
    func run(_ job: Job, context: JobContext) async throws -> JobOutcome

    /// The most jobs that the plugin can run at once in one worker; nil if it sets no limit. This is the kind's
    /// `concurrency` unless the configuration gives one. Defaults to nil.
    var capacity: Int? { get }

    /// Prepares what outlives a run, such as processes. A worker calls this once for each kind, when it starts. Defaults
    /// to nothing.
    ///
    /// - Parameter logger: The logger for what concerns no single job.
    func start(logger: Logger) async

    /// Ends what outlives a run. A worker calls this once for each kind, after its last run. A run that comes later
    /// returns ``JobOutcome/released``, unless it can do its work. Defaults to nothing.
    func stop() async
}

extension HandlerPlugin {
    /// No limit.
    public var capacity: Int? { nil }

    /// Does nothing.
    public func start(logger: Logger) async {}

    /// Does nothing.
    public func stop() async {}
}
