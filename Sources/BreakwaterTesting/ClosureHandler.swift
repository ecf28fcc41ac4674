public import Breakwater

/// A handler made of a closure, for tests.
public struct ClosureHandler: HandlerPlugin {
    private var body: @Sendable (Job, JobContext) async throws -> JobOutcome

    /// - Parameter body: What runs each job.
    public init(_ body: @escaping @Sendable (Job, JobContext) async throws -> JobOutcome) {
        self.body = body
    }

    /// Runs the closure.
    ///
    /// - Parameters:
    ///   - job: The job.
    ///   - context: Its context.
    /// - Returns: What the closure returns.
    /// - Throws: What the closure throws.
    public func run(_ job: Job, context: JobContext) async throws -> JobOutcome { try await body(job, context) }
}
