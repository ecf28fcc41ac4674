public import Breakwater

/// A handler made of a closure, for tests.
public struct ClosureHandler: HandlerPlugin {
    private var body: @Sendable (Job, JobContext) async throws -> JobOutcome

    /// - Parameter body: Runs each job.
    public init(_ body: @escaping @Sendable (Job, JobContext) async throws -> JobOutcome) {
        self.body = body
    }

    /// Runs the closure.
    ///
    /// - Parameters:
    ///   - job: The job.
    ///   - context: Its context.
    /// - Returns: The closure's result.
    /// - Throws: The closure's error.
    public func run(_ job: Job, context: JobContext) async throws -> JobOutcome { try await body(job, context) }
}
