public import Logging

/// A type that runs the jobs of a kind: by a program, an HTTP endpoint or Swift code.
///
/// A worker calls `run` once for each claimed job, many at a time. Cancellation means that the timeout is exceeded, the
/// lease is lost or the worker shuts down. The plugin must then end soon, and leave nothing running.
public protocol HandlerPlugin: Sendable {
    /// Runs one job.
    ///
    /// - Parameters:
    ///   - job: The job, with its payload as JSON text.
    ///   - context: The deadline, and a logger that carries the job's identity.
    /// - Returns: The outcome of the run.
    /// - Throws: Any error. It counts as ``JobOutcome/failed(_:)`` under the name of its type, or as
    ///   ``JobOutcome/unable(_:)`` if it says that this process has no descriptors or memory left.
    func run(_ job: Job, context: JobContext) async throws -> JobOutcome

    /// The most jobs that the plugin can run at once in one worker; nil if it sets no limit. This is the kind's
    /// `concurrency` unless the configuration gives one. Defaults to nil.
    var capacity: Int? { get }

    /// Prepares what outlives a run, such as processes. A worker calls this once, when it starts. Defaults to nothing.
    ///
    /// - Parameter logger: The logger for what concerns no single job.
    func start(logger: Logger) async

    /// Ends what outlives a run. A worker calls this once, after its last run. Defaults to nothing.
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
