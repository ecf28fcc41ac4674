public import Logging

/// The data that a handler receives in addition to its payload.
public struct JobContext: Sendable {
    /// The job being run.
    public var job: Job
    /// The time at which the handler is cancelled.
    public var deadline: ContinuousClock.Instant {
        get { end.continuous }
        set { end = MonotonicClock.Instant(newValue) }
    }
    private var end: MonotonicClock.Instant
    private var workerLogger: Logger
    /// Receives what the run reports about itself; nil in a context that was made for a test.
    package var reports: RunReports?
    /// Settles the run as a success in a transaction of the plugin; nil unless the plugin is a ``SettlingPlugin``.
    package var settlement: RunSettlement?

    /// - Parameters:
    ///   - job: The job being run.
    ///   - deadline: The time at which the handler is cancelled. Defaults to in a minute.
    ///   - logger: The logger for the handler, to which the job's identity is added. Defaults to one with the label
    ///     `breakwater.handlers`.
    public init(
        job: Job,
        deadline: ContinuousClock.Instant = .now + .seconds(60),
        logger: Logger = Logger(label: "breakwater.handlers")
    ) {
        self.init(job: job, end: MonotonicClock.Instant(deadline), logger: logger)
    }

    init(job: Job, end: MonotonicClock.Instant, logger: Logger) {
        self.job = job
        self.end = end
        workerLogger = logger
    }

    /// A logger with the job's id, kind, queue and attempt as metadata, and the ids of its trace and span if it has
    /// any.
    public var logger: Logger {
        // The logger is made on access, because most runs log nothing.
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
