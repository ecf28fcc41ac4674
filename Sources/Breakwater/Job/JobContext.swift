public import Logging

/// What a handler is given beside its job.
public struct JobContext: Sendable {
    /// The job being run.
    public var job: Job
    /// When the handler's time is up and it is cancelled.
    public var deadline: ContinuousClock.Instant
    /// A logger that already carries the job's id, kind, queue and attempt.
    public var logger: Logger

    /// - Parameters:
    ///   - job: The job being run.
    ///   - deadline: When the handler is cancelled.
    ///   - logger: Where the handler logs.
    public init(job: Job, deadline: ContinuousClock.Instant, logger: Logger) {
        self.job = job
        self.deadline = deadline
        self.logger = logger
    }

    /// The time left until the handler is cancelled; never negative.
    public var remainingTime: Duration { max(.zero, deadline - .now) }
}
