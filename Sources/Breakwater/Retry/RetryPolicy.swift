import Foundation

/// The rules for when and how often a failed job runs again.
public struct RetryPolicy: Sendable, Equatable {
    /// The growth of the delay from one attempt to the next.
    public enum Backoff: String, Sendable, CaseIterable {
        /// `base · factor^(attempt-1)`.
        case exponential
        /// `base · attempt`.
        case linear
        /// Always `base`.
        case constant
        /// Uniform between `base` and three times the previous delay, for every jitter. From "Exponential Backoff And
        /// Jitter", AWS Architecture Blog, 2015.
        case decorrelated
    }

    /// The randomisation of the delay, so that jobs that failed together do not run again together.
    ///
    /// The names are those of "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    public enum Jitter: String, Sendable, CaseIterable {
        /// Uniform between zero and the delay.
        case full
        /// Half of the delay plus a uniformly random part of the other half.
        case equal
        /// The delay itself.
        case none
    }

    /// The most counted runs of a job before it becomes a dead letter; 1 to 1,000,000. A job's own `max_attempts` takes
    /// precedence. Defaults to 20.
    public var maxAttempts = 20
    /// The growth of the delay. Defaults to exponential.
    public var backoff = Backoff.exponential
    /// The delay after the first attempt, before jitter, up to 3650 days. Defaults to 1 second.
    public var base = Duration.seconds(1)
    /// The factor by which each further attempt multiplies an exponential delay; 1 to 1000. Defaults to 2.
    public var factor = 2.0
    /// The longest delay, from ``base`` to 3650 days. Defaults to 1 hour.
    public var cap = Duration.seconds(3600)
    /// The randomisation of the delay. Defaults to full.
    public var jitter = Jitter.full
    /// Names of failures that are retried although their handler would discard them. Defaults to none.
    ///
    /// A name may end in `*`, which matches any text: `http.4*`.
    public var retryOn: [String] = []
    /// Names of failures that are dead-lettered at once instead of retried. Defaults to none.
    public var discardOn: [String] = []

    /// If not empty, failures with any other name are dead-lettered at once. Defaults to none.
    public var onlyOn: [String] = []
    /// The age after which a job does not run again, but becomes a dead letter with the reason `expired`; 1 second to
    /// 3650 days, nil for no limit. Defaults to nil.
    public var maxAge: Duration?
    /// The retries of a kind in the whole fleet, as a share of its first attempts over the last minute, 0 to 100;
    /// nil for no limit. Ten retries a second are always allowed. Defaults to 0.2, as in Finagle.
    public var budget: Double? = 0.2

    /// The defaults.
    public init() {}

    /// The delay before the next run.
    ///
    /// The delay is `min(cap, base·factor^(attempt-1))` with jitter. It is never negative nor above the cap, for any
    /// attempt.
    ///
    /// - Parameters:
    ///   - attempt: The number of counted runs so far; at least 1.
    ///   - generator: The source of the jitter.
    /// - Returns: A delay between zero and ``cap``.
    public func delay(afterAttempt attempt: Int, using generator: inout some RandomNumberGenerator) -> Duration {
        let longest = cap.inSeconds
        let step: Double =
            switch backoff {
            // Zero times infinity, which is a power too large for a Double, would be NaN.
            case .exponential: base == .zero ? 0 : base.inSeconds * pow(factor, Double(max(1, attempt) - 1))
            case .linear: base.inSeconds * Double(max(1, attempt))
            case .constant: base.inSeconds
            case .decorrelated: decorrelatedWalk(steps: attempt, using: &generator)
            }
        // A step too large for a Double is infinite, so the delay is the cap.
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

    /// A random walk of `delay = min(cap, uniform(base, 3·delay))`, which is repeated from the start for each delay. So
    /// no job needs to store its last delay, and each delay still has the walk's distribution.
    private func decorrelatedWalk(steps: Int, using generator: inout some RandomNumberGenerator) -> Double {
        var delay = base.inSeconds
        // After 100 steps the walk has either reached the cap or never will.
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
    /// - Parameter outcome: The handler's outcome.
    /// - Returns: The same outcome, or the one that the rules change it to.
    package func applyRules(to outcome: JobOutcome) -> JobOutcome {
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
    /// Whether this failure's name is `pattern`, or begins with the part of `pattern` before its final `*`.
    func matches(_ pattern: String) -> Bool {
        pattern.hasSuffix("*") ? name.hasPrefix(pattern.dropLast()) : name == pattern
    }

    func matches(any patterns: [String]) -> Bool { patterns.contains { matches($0) } }
}
