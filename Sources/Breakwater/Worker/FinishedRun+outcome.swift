extension FinishedRun.Ending {
    /// What is recorded of an outcome: its class, after the retry rules, and how long until the next run.
    ///
    /// - Parameters:
    ///   - outcome: What the handler said.
    ///   - job: The job it ran.
    ///   - settings: The rules around the handler.
    init(_ outcome: JobOutcome, of job: Job, settings: HandlerSettings) {
        let policy = settings.retry
        var generator = SystemRandomNumberGenerator()
        switch policy.applyRules(to: outcome) {
        case .succeeded(let result):
            self.init(className: "succeeded", result: settings.keepResults > .zero ? result : nil)
        case .failed(let failure):
            self.init(
                className: "failed",
                failure: failure.storable,
                delay: policy.delay(afterAttempt: job.attempt, using: &generator)
            )
        case .unavailable(let failure, let retryAfter):
            self.init(
                className: "unavailable",
                failure: failure.storable,
                delay: retryAfter ?? policy.delay(afterAttempt: job.attempt, using: &generator)
            )
        case .throttled(let failure, let retryAfter):
            self.init(className: "throttled", failure: failure.storable, delay: retryAfter)
        case .discarded(let failure):
            self.init(className: "discarded", failure: failure.storable)
        case .snoozed(let delay):
            self.init(className: "snoozed", delay: delay)
        case .released:
            self = .released
        }
    }
}

extension JobFailure {
    /// At most this many characters of a message are kept.
    static let longestMessage = 8192

    /// This failure without what Postgres cannot store (U+0000), and within bounds.
    var storable: JobFailure {
        JobFailure(
            String(name.prefix(200)).withoutNUL,
            String(message.prefix(Self.longestMessage)).withoutNUL
        )
    }
}

extension String {
    fileprivate var withoutNUL: String { utf8.contains(0) ? replacing("\0", with: "\u{FFFD}") : self }
}
