import Foundation

/// When and how often a failed job is run again.
public struct RetryPolicy: Sendable, Equatable {
    /// How the delay grows from one attempt to the next.
    public enum Backoff: String, Sendable, CaseIterable {
        /// `base · factor^(attempt-1)`.
        case exponential
        /// `base · attempt`.
        case linear
        /// `base`, always.
        case constant
        /// Uniform between `base` and three times the delay before, whatever the jitter. From "Exponential Backoff And
        /// Jitter", AWS Architecture Blog, 2015.
        case decorrelated
    }

    /// How the delay is spread, so that jobs that failed together do not come back together.
    ///
    /// The names are those of "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    public enum Jitter: String, Sendable, CaseIterable {
        /// Uniform between nothing and the delay.
        case full
        /// Half the delay, and uniform over the other half.
        case equal
        /// The delay itself.
        case none
    }

    /// How many counted runs a job may have before it becomes a dead letter; at least 1. A job's own
    /// `max_attempts` goes before it. Defaults to 20.
    public var maxAttempts = 20
    /// How the delay grows. Defaults to exponential.
    public var backoff = Backoff.exponential
    /// The delay after the first attempt, before jitter. Defaults to 1 second.
    public var base = Duration.seconds(1)
    /// What each further attempt multiplies the delay by, when exponential; at least 1. Defaults to 2.
    public var factor = 2.0
    /// The delay never exceeds this. Defaults to 1 hour.
    public var cap = Duration.seconds(3600)
    /// How the delay is spread. Defaults to full.
    public var jitter = Jitter.full
    /// Names of failures that are retried although their handler would discard them. Defaults to none.
    ///
    /// A name may end in `*`, which stands for anything: `http.4*`.
    public var retryOn: [String] = []
    /// Names of failures that are discarded to the dead letters at once instead of retried. Defaults to none.
    public var discardOn: [String] = []

    /// When not empty, failures of any other name are discarded to the dead letters at once. Defaults to none.
    public var onlyOn: [String] = []
    /// A job older than this is not run again; it becomes a dead letter for the reason `expired`. nil for no limit.
    /// Defaults to nil.
    public var maxAge: Duration?
    /// The retries of a kind in the whole fleet, as a share of its first attempts over the last minute; nil for no
    /// limit. Ten retries a second are always allowed. Defaults to 0.2, as Finagle has it.
    public var budget: Double? = 0.2

    /// The defaults.
    public init() {}

    /// The delay before the next run.
    ///
    /// `min(cap, base·factor^(attempt-1))` with jitter: never negative, never above the cap, for every attempt.
    ///
    /// - Parameters:
    ///   - attempt: How many counted runs there have been; at least 1.
    ///   - generator: The source of the jitter.
    /// - Returns: Between zero and ``cap``.
    public func delay(afterAttempt attempt: Int, using generator: inout some RandomNumberGenerator) -> Duration {
        let longest = cap.inSeconds
        let step: Double =
            switch backoff {
            // Zero times a power too large for a Double would not be a number.
            case .exponential: base == .zero ? 0 : base.inSeconds * pow(factor, Double(max(1, attempt) - 1))
            case .linear: base.inSeconds * Double(max(1, attempt))
            case .constant: base.inSeconds
            case .decorrelated: decorrelatedWalk(steps: attempt, using: &generator)
            }
        // A step too large for a Double is infinite: it ends at the cap.
        let delay = step.isFinite ? min(longest, max(0, step)) : longest
        let spread =
            switch jitter {
            case _ where backoff == .decorrelated: delay
            case .full: Double.random(in: 0...1, using: &generator) * delay
            case .equal: delay / 2 + Double.random(in: 0...1, using: &generator) * delay / 2
            case .none: delay
            }
        return .seconds(spread)
    }

    /// A walk of `delay = min(cap, uniform(base, 3·delay))`, drawn anew each time: so no job needs to remember its last
    /// delay, and each delay still has the walk's distribution.
    private func decorrelatedWalk(steps: Int, using generator: inout some RandomNumberGenerator) -> Double {
        var delay = base.inSeconds
        // After 100 steps the walk has either met the cap or never will.
        for _ in 0..<min(max(1, steps), 100) {
            delay = min(
                cap.inSeconds,
                Double.random(in: base.inSeconds...max(base.inSeconds, 3 * delay), using: &generator)
            )
        }
        return delay
    }

    /// Applies ``retryOn``, ``onlyOn`` and ``discardOn`` to an outcome.
    ///
    /// - Parameter outcome: What the handler said.
    /// - Returns: The same outcome, or the one that the rules turn it into.
    public func applyRules(to outcome: JobOutcome) -> JobOutcome {
        switch outcome {
        case .failed(let failure), .unavailable(let failure, _):
            failure.matches(any: discardOn) || !(onlyOn.isEmpty || failure.matches(any: onlyOn))
                ? .discarded(failure) : outcome
        case .discarded(let failure):
            failure.matches(any: retryOn) ? .failed(failure) : outcome
        case .succeeded, .throttled, .unable, .snoozed, .released:
            outcome
        }
    }
}

extension JobFailure {
    /// Whether this failure's name is `pattern`, or begins as `pattern` does before its final `*`.
    func matches(_ pattern: String) -> Bool {
        pattern.hasSuffix("*") ? name.hasPrefix(pattern.dropLast()) : name == pattern
    }

    func matches(any patterns: [String]) -> Bool { patterns.contains { matches($0) } }
}
