public import Logging

/// What a handler is given beside its payload.
public struct JobContext: Sendable {
    /// The job being run.
    public var job: Job
    /// When the handler's time is up and it is cancelled.
    public var deadline: ContinuousClock.Instant {
        get { end.continuous }
        set { end = MonotonicClock.Instant(newValue) }
    }
    private var end: MonotonicClock.Instant
    private var workerLogger: Logger

    /// - Parameters:
    ///   - job: The job being run.
    ///   - deadline: When the handler is cancelled.
    ///   - logger: Where the handler logs; the job's identity is added to it.
    public init(job: Job, deadline: ContinuousClock.Instant, logger: Logger) {
        self.init(job: job, end: MonotonicClock.Instant(deadline), logger: logger)
    }

    init(job: Job, end: MonotonicClock.Instant, logger: Logger) {
        self.job = job
        self.end = end
        workerLogger = logger
    }

    /// A logger that carries the job's id, kind, queue and attempt, and the ids of its trace and span if it has any.
    public var logger: Logger {
        // Made when asked for: most runs log nothing.
        var logger = workerLogger
        for (key, value) in job.metadata() { logger[metadataKey: key] = value }
        if let ids = job.traceIDs {
            logger[metadataKey: "trace_id"] = "\(ids.trace)"
            logger[metadataKey: "span_id"] = "\(ids.span)"
        }
        return logger
    }

    /// The time left until the handler is cancelled; never negative.
    public var remainingTime: Duration { max(.zero, end - .now) }
}
