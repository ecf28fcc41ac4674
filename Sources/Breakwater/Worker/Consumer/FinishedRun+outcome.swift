extension FinishedRun.Ending {
    /// What is recorded of an outcome: its class after the retry rules, how long until the next run, and what the
    /// circuit learns.
    ///
    /// - Parameters:
    ///   - outcome: What the handler said.
    ///   - job: The job it ran.
    ///   - duration: How long it took.
    ///   - settings: The rules around the handler.
    init(_ outcome: JobOutcome, of job: Job, duration: Duration, settings: HandlerSettings) {
        let policy = settings.retry
        var generator = SystemRandomNumberGenerator()
        switch policy.applyRules(to: outcome) {
        case .succeeded(let result):
            self.init(className: "succeeded", result: settings.keepResults > .zero ? result : nil)
        case .failed(let failure):
            self.init(
                className: "failed",
                failure: failure.storable,
                delay: policy.delay(afterAttempt: job.attempt + job.handedBack, using: &generator)
            )
        case .unavailable(let failure, let retryAfter):
            let backoff = policy.delay(afterAttempt: job.attempt + job.handedBack, using: &generator)
            // What the dependency asks for may be longer than the job's own backoff, never shorter.
            self.init(
                className: "unavailable",
                failure: failure.storable,
                delay: max(backoff, retryAfter ?? .zero)
            )
        case .throttled(let failure, let retryAfter):
            self.init(className: "throttled", failure: failure.storable, delay: retryAfter)
        case .unable(let failure):
            // The settling decides when it runs again.
            self.init(className: "unable", failure: failure.storable)
        case .discarded(let failure):
            self.init(className: "discarded", failure: failure.storable)
        case .snoozed(let delay):
            self.init(className: "snoozed", delay: delay)
        case .released:
            self = .released
        }
        // Beyond this the database's own time may end.
        delay = min(delay, HandlerSettings.longestDuration)
        let circuit = settings.circuit
        effect = circuit.effect(of: outcome)
        if let slow = circuit.slowCall, duration >= slow, isSuccess || effect != .ignored { isSlow = true }
        if circuit.honoursRetryAfter, effect != .ignored { retryAfter = outcome.retryAfter }
    }
}

extension CircuitPolicy {
    /// What a run that did not succeed means to the circuit: its class says, unless a rule for its failure's name does.
    func effect(of outcome: JobOutcome) -> FinishedRun.Effect {
        guard let failure = outcome.failure else { return .ignored }
        // It says nothing about the dependency, whatever the failure's name is.
        if case .unable = outcome { return .ignored }
        if failure.matches(any: ignoreOn) { return .ignored }
        if failure.matches(any: tripOn) { return .tripped }
        if failure.matches(any: countOn) { return .failed }
        return switch outcome {
        case .failed, .unavailable: .failed
        case .throttled: honoursRetryAfter ? .tripped : .ignored
        case .succeeded, .unable, .discarded, .snoozed, .released: .ignored
        }
    }
}

extension JobOutcome {
    var isSuccess: Bool { if case .succeeded = self { true } else { false } }

    /// What went wrong, if anything did.
    var failure: JobFailure? {
        switch self {
        case .failed(let failure), .unavailable(let failure, _), .throttled(let failure, _), .unable(let failure),
            .discarded(let failure):
            failure
        case .succeeded, .snoozed, .released:
            nil
        }
    }

    fileprivate var retryAfter: Duration? {
        switch self {
        case .unavailable(_, let retryAfter): retryAfter
        case .throttled(_, let retryAfter): retryAfter
        case .succeeded, .failed, .unable, .discarded, .snoozed, .released: nil
        }
    }
}

extension JobFailure {
    /// At most this many characters of a message are kept.
    static let longestMessage = 8192

    /// This failure without what Postgres cannot store (U+0000), and within bounds.
    var storable: JobFailure {
        JobFailure(
            name.beginning(ofLength: 200).withoutNUL,
            message.beginning(ofLength: Self.longestMessage).withoutNUL
        )
    }
}

extension String {
    fileprivate var withoutNUL: String { utf8.contains(0) ? replacing("\0", with: "\u{FFFD}") : self }

    /// At most `length` Unicode scalars, which is what Postgres counts; one `Character` can have any number of them.
    fileprivate func beginning(ofLength length: Int) -> String {
        utf8.count <= length ? self : String(unicodeScalars.prefix(length))
    }
}
