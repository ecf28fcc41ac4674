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
}
