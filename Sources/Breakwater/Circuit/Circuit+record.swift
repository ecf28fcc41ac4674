extension Circuit {
    /// Takes note of how calls ended, and makes the transition that follows, if one does.
    ///
    /// - Parameters:
    ///   - calls: What they came to, without the ignored ones, whose ends mean nothing to a circuit.
    ///   - generation: What they were admitted under. Calls of an earlier generation change nothing.
    ///   - now: The time.
    ///   - generator: The source of the jitter.
    mutating func record(
        _ calls: CircuitCalls,
        of generation: Int64,
        at now: Duration,
        using generator: inout some RandomNumberGenerator
    ) {
        guard generation == self.generation, hold?.override != .disabled else { return }
        switch state {
        case .closed:
            window.add(calls, at: now)
            if calls.failed > 0 || calls.slow > 0 { tripIfDue(calls, at: now, using: &generator) }
        case .open:
            break
        case .halfOpen(let successes):
            countProbes(calls, after: successes, at: now, using: &generator)
        }
    }

    private mutating func tripIfDue(
        _ calls: CircuitCalls,
        at now: Duration,
        using generator: inout some RandomNumberGenerator
    ) {
        guard let reason = calls.trip.map({ "\($0) opens it at once" }) ?? verdict(at: now) else { return }
        switch hold?.override {
        case .closed, .disabled, .open: break
        case .metricsOnly: announce(reason)
        case nil: move(to: .open, reason, retryAfter: calls.retryAfter, at: now, using: &generator)
        }
    }

    /// Why the window is reason to open, in words; nil if it is not.
    private mutating func verdict(at now: Duration) -> String? {
        let counts = window.counts(at: now)
        let span =
            switch policy.window {
            case .time(let length): "\(length.inSeconds.withoutNeedlessZero) s"
            case .calls(let size): "the last \(size)"
            }
        // Divided, not multiplied: 7 of 100 calls are exactly 0.07, but 0.07 · 100 is more than 7.
        func isReached(_ rate: Double, by count: Int) -> Bool {
            counts.calls >= policy.minimumCalls && Double(count) / Double(counts.calls) >= rate
        }
        if let rate = policy.failureRate, isReached(rate, by: counts.failed) {
            return "\(counts.failed) of \(counts.calls) calls failed in \(span)"
        }
        if policy.slowCall != nil, isReached(policy.slowRate, by: counts.slow) {
            return "\(counts.slow) of \(counts.calls) calls were slow in \(span)"
        }
        if let limit = policy.consecutiveFailures, window.streak >= limit {
            return "\(window.streak) failures in a row"
        }
        return nil
    }

    /// A failure weighs more than any number of successes beside it.
    private mutating func countProbes(
        _ calls: CircuitCalls,
        after successes: Int,
        at now: Duration,
        using generator: inout some RandomNumberGenerator
    ) {
        let successes = successes + calls.succeeded
        if calls.failed > 0 {
            move(to: .open, "a probe failed", retryAfter: calls.retryAfter, at: now, using: &generator)
        } else if calls.slow > 0, policy.slowCall != nil {
            move(to: .open, "a probe was slow", at: now, using: &generator)
        } else if successes >= policy.successesToClose {
            move(to: .closed, "\(successes) probes succeeded", at: now, using: &generator)
        } else {
            state = .halfOpen(successes: successes)
        }
    }
}

extension Double {
    /// `60` for 60.0, `1.5` for 1.5.
    fileprivate var withoutNeedlessZero: String {
        rounded() == self && abs(self) < 1e15 ? "\(Int64(self))" : "\(self)"
    }
}
