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
            window.add(calls.votes, at: now)
            if calls.failed > 0 || calls.slow > 0 { tripIfDue(calls, at: now, using: &generator) }
        case .open:
            break
        case .halfOpen(let round):
            countProbes(calls, after: round, at: now, using: &generator)
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
        case nil:
            move(
                to: .open,
                reason,
                retryAfter: calls.retryAfter,
                isCheckedFirst: checksFirst && calls.trip == nil && calls.retryAfter == nil,
                at: now,
                using: &generator
            )
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
        if let limit = streakLimit(at: now), window.streak >= limit {
            return "\(window.streak) failures in a row"
        }
        return nil
    }

    /// How many failures in a row open the circuit: as the policy says. But soon after an outage, until it has been
    /// closed for as long as it had been open, half as many are enough: a dependency that goes up and down must not
    /// cost a whole streak each time. Soon after a false alarm, for as long as the window is, it takes twice as many,
    /// and twice as many again for each further one, up to eight times: there are bad jobs about.
    private func streakLimit(at now: Duration) -> Int? {
        guard let limit = policy.consecutiveFailures else { return nil }
        let time = now - since
        if let falseAlarms {
            return time < policy.relapseWindow ? max(limit, min(limit << min(falseAlarms + 1, 3), 10_000)) : limit
        }
        return time < wasOpenFor ? (limit + 1) / 2 : limit
    }

    /// A round closes the circuit, or opens it again, when enough probes have ended to tell; at the latest after ten
    /// times as many as are let through at once.
    ///
    /// It goes by the policy's own standard, or by a half where the policy has no rate: what would not open a closed
    /// circuit does not keep it open.
    private mutating func countProbes(
        _ calls: CircuitCalls,
        after round: Round,
        at now: Duration,
        using generator: inout some RandomNumberGenerator
    ) {
        var round = round
        round.successes += calls.succeeded
        round.failures += calls.votes.failed
        round.slow += calls.votes.slow
        if let wait = calls.retryAfter { round.askedFor = max(round.askedFor ?? .zero, wait) }

        // Repeats have to show nothing: the round waits for others.
        guard round.calls > 0 || calls.trip != nil else {
            state = .halfOpen(round)
            return
        }

        let slowRate = policy.slowCall == nil ? nil : policy.slowRate
        let described =
            "\(round.failures) of \(round.calls) probes failed"
            + (slowRate != nil && round.slow > 0 ? ", \(round.slow) were slow" : "")
        let failureRate = policy.failureRate ?? 0.5
        let isGood =
            Double(round.failures) / Double(round.calls) < failureRate
            && (slowRate.map { Double(round.slow) / Double(round.calls) < $0 } ?? true)

        if let trip = calls.trip {
            move(to: .open, "\(trip) opens it at once", retryAfter: round.askedFor, at: now, using: &generator)
        } else if round.hasTooMany(round.failures, rate: failureRate, policy)
            || slowRate.map({ round.hasTooMany(round.slow, rate: $0, policy) }) ?? false
        {
            move(to: .open, described, retryAfter: round.askedFor, at: now, using: &generator)
        } else if isGood, round.successes >= policy.successesToClose {
            let reason = round.failures == 0 ? "\(round.successes) probes succeeded" : described
            move(to: .closed, reason, at: now, using: &generator)
        } else if !isGood, round.calls >= 10 * max(policy.probes, policy.successesToClose) {
            move(to: .open, described, retryAfter: round.askedFor, at: now, using: &generator)
        } else {
            state = .halfOpen(round)
        }
    }
}

extension Circuit.Round {
    /// Whether bad calls decide a round. `successesToClose` of them are left aside; the share of bad calls among all
    /// others must still reach the rate.
    fileprivate func hasTooMany(_ bad: Int, rate: Double, _ policy: CircuitPolicy) -> Bool {
        let enough = policy.successesToClose
        return bad >= enough && Double(bad - enough) >= rate * Double(calls - enough)
    }
}

extension Double {
    /// `60` for 60.0, `1.5` for 1.5.
    fileprivate var withoutNeedlessZero: String {
        rounded() == self && abs(self) < 1e15 ? "\(Int64(self))" : "\(self)"
    }
}
