extension FinishedRun.Ending {
    /// The ending to record for an outcome: its class after the retry rules, the delay until the next run, and the
    /// effect on the circuit.
    ///
    /// - Parameters:
    ///   - outcome: The handler's outcome.
    ///   - job: The job that ran.
    ///   - duration: How long the run took.
    ///   - settings: The handler's settings.
    init(_ outcome: JobOutcome, of job: Job, duration: Duration, settings: HandlerSettings) {
        let policy = settings.retry
        var generator = SystemRandomNumberGenerator()
        switch policy.applyRules(to: outcome) {
        case .succeeded(let result):
            // A success without a result is kept too, so that the job can be found.
            self.init(outcomeClass: .succeeded, result: settings.keepResults > .zero ? result ?? "null" : nil)
        case .failed(let failure):
            self.init(
                outcomeClass: .failed,
                failure: failure.storable,
                delay: policy.delay(afterAttempt: job.attempt + job.handedBack, using: &generator)
            )
        case .unavailable(let failure, let retryAfter):
            let backoff = policy.delay(afterAttempt: job.attempt + job.handedBack, using: &generator)
            // The dependency may ask for a longer delay than the job's own backoff, but not for a shorter one.
            self.init(
                outcomeClass: .unavailable,
                failure: failure.storable,
                delay: max(backoff, retryAfter ?? .zero)
            )
        case .throttled(let failure, let retryAfter):
            self.init(outcomeClass: .throttled, failure: failure.storable, delay: retryAfter)
        case .unable(let failure):
            // The settle decides when the job runs again.
            self.init(outcomeClass: .unable, failure: failure.storable)
        case .discarded(let failure):
            self.init(outcomeClass: .discarded, failure: failure.storable)
        case .snoozed(let delay):
            self.init(outcomeClass: .snoozed, delay: delay)
        case .released:
            self = .released
        }
        // A longer delay could exceed the range of the database's timestamps.
        delay = min(delay, HandlerSettings.longestDuration)
        let circuit = settings.circuit
        effect = circuit.effect(of: outcome)
        if let slow = circuit.slowCall, duration >= slow, isSuccess || effect != .ignored { isSlow = true }
        if circuit.honoursRetryAfter, effect != .ignored { retryAfter = outcome.retryAfter }
    }
}

extension CircuitPolicy {
    /// The effect on the circuit of a run that did not succeed. Its class decides, unless a rule for the failure's name
    /// does.
    func effect(of outcome: JobOutcome) -> FinishedRun.Effect {
        guard let failure = outcome.failure else { return .ignored }
        // The outcome says nothing about the dependency, whatever the failure's name is.
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

extension JobFailure {
    /// At most this many characters of a message are kept.
    package static let longestMessage = 8192

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
