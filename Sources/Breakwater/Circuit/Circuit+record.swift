extension Circuit {
    /// Records how calls ended, and makes the resulting transition, if any.
    ///
    /// - Parameters:
    ///   - calls: The counts of the calls, without ignored ones.
    ///   - generation: The generation under which the calls were admitted. Calls of an earlier generation change
    ///     nothing.
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

    /// The reason to open because of the window, in words; nil if there is none.
    private mutating func verdict(at now: Duration) -> String? {
        let counts = window.counts(at: now)
        let span =
            switch policy.window {
            case .time(let length): "\(length.inSeconds.withoutNeedlessZero) s"
            case .calls(let size): "the last \(size)"
            }
        // Division avoids a rounding error: 7 of 100 calls are exactly 0.07, but 0.07 · 100 is more than 7.
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

    /// How many failures in a row open the circuit. Usually this is the policy's number. Soon after an outage, until
    /// the circuit has been closed for as long as it was open, half as many are enough, because a flapping dependency
    /// must not cost a whole streak each time. For the length of the window after a false alarm, twice as many are
    /// needed, and twice as many again for each further false alarm, up to eight times, because some jobs are probably
    /// bad.
    private func streakLimit(at now: Duration) -> Int? {
        guard let limit = policy.consecutiveFailures else { return nil }
        let time = now - since
        if let falseAlarms {
            return time < policy.relapseWindow ? max(limit, min(limit << min(falseAlarms + 1, 3), 10_000)) : limit
        }
        return time < wasOpenFor ? (limit + 1) / 2 : limit
    }

    /// Adds probes to a round. The round closes the circuit or opens it again when enough probes have ended to decide,
    /// at the latest after ten times as many as run at once.
    ///
    /// The policy's rates decide, or one half if the policy has no failure rate. Failures that would not open a closed
    /// circuit do not keep it open.
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

        // Repeats do not count, so the round waits for other probes.
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
    /// Whether bad calls decide a round. `successesToClose` of them are not counted. The share of bad calls among the
    /// remaining calls must still reach the rate.
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
