/// When a worker makes itself free for suspects: jobs that may have killed their workers, and must run apart from
/// others.
///
/// A pure value: it decides, and the claim loop acts. It is fair to the other jobs: the worker works as usual for at
/// least as long as it was withdrawn, before it withdraws again.
struct Quarantine {
    typealias Instant = MonotonicClock.Instant

    private enum Phase {
        /// Works as usual, at least until then. Goes to `withdrawing`.
        case accepting(until: Instant)
        /// Claims nothing more, and waits until everything it holds has ended. Goes to `alone` or `accepting`.
        case withdrawing(since: Instant)
        /// Runs one group of suspects after another. Goes to `accepting`.
        case alone(since: Instant)
    }

    /// Once it holds nothing else, the worker keeps claiming further groups of suspects for this long.
    static let longestRow = Duration.seconds(1)

    /// How long the worker first waits for the jobs that it holds to end. The wait doubles each time it was in vain.
    let firstPatience: Duration
    private var patience: Duration
    private var phase: Phase

    /// - Parameters:
    ///   - patience: How long it waits at first for what it holds to end.
    ///   - now: The time.
    init(patience: Duration, at now: Instant) {
        firstPatience = patience
        self.patience = patience
        phase = .accepting(until: now)
    }

    /// Whether it claims as usual.
    var acceptsJobs: Bool {
        if case .accepting = phase { true } else { false }
    }

    /// Suspects wait that this worker should run.
    mutating func suspectWaits(at now: Instant) {
        if case .accepting(let until) = phase, now >= until { phase = .withdrawing(since: now) }
    }

    /// Whether to claim suspects now.
    ///
    /// - Parameters:
    ///   - holdsNothing: Whether everything the worker held has ended and is settled.
    ///   - now: The time.
    mutating func wantsSuspect(holdsNothing: Bool, at now: Instant) -> Bool {
        switch phase {
        case .accepting:
            return false
        case .withdrawing(let since):
            if holdsNothing { return true }
            if now - since >= patience {
                patience = min(patience * 2, .seconds(3600))
                phase = .accepting(until: now + (now - since))
            }
            return false
        case .alone(let since):
            guard holdsNothing else { return false }
            if now - since < Self.longestRow { return true }
            phase = .accepting(until: now + (now - since))
            return false
        }
    }

    /// Takes note of whether suspects were there to claim.
    mutating func claimed(_ found: Bool, at now: Instant) {
        patience = firstPatience
        switch phase {
        case .accepting:
            break
        case .withdrawing(let since), .alone(let since):
            if !found {
                phase = .accepting(until: now + (now - since))
            } else if case .withdrawing = phase {
                phase = .alone(since: now)
            }
        }
    }
}
