/// Something that runs the jobs of a kind: a program, an HTTP endpoint, Swift code.
///
/// A worker calls `run` once for each claimed job, many at a time. Cancellation means that the time is up or the
/// lease is lost: end soon, and leave nothing running behind.
public protocol HandlerPlugin: Sendable {
    /// Runs one job.
    ///
    /// - Parameters:
    ///   - job: The job, with its payload as JSON text.
    ///   - context: The deadline, and a logger that carries the job's identity.
    /// - Returns: How it ended.
    /// - Throws: Any error. It counts as ``JobOutcome/failed(_:)`` under the name of its type, or as
    ///   ``JobOutcome/unable(_:)`` if it says that this process has no descriptors or memory left.
    func run(_ job: Job, context: JobContext) async throws -> JobOutcome
}
