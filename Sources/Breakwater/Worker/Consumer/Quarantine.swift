/// Decides when a worker stops claiming other jobs in order to run suspects: jobs that may have killed their workers,
/// and must run apart from others.
///
/// This is a pure value whose decisions the claim loop executes. To be fair to other jobs, the worker claims as usual
/// for at least as long as it was withdrawn, before it withdraws again.
struct Quarantine {
    typealias Instant = MonotonicClock.Instant

    private enum Phase {
        /// The worker claims as usual, at least until this time. Goes to `withdrawing`.
        case accepting(until: Instant)
        /// The worker claims nothing more, and waits until all its jobs have ended. Goes to `alone` or `accepting`.
        case withdrawing(since: Instant)
        /// The worker runs one group of suspects after another. Goes to `accepting`.
        case alone(since: Instant)
    }

    /// How long the worker keeps claiming groups of suspects once it holds nothing else.
    static let longestRow = Duration.seconds(1)

    /// How long the worker first waits for its jobs to end. The wait doubles each time they do not end in time.
    let firstWaitLimit: Duration
    private var waitLimit: Duration
    private var phase: Phase

    /// - Parameters:
    ///   - waitLimit: How long the worker first waits for its jobs to end.
    ///   - now: The time.
    init(waitLimit: Duration, at now: Instant) {
        firstWaitLimit = waitLimit
        self.waitLimit = waitLimit
        phase = .accepting(until: now)
    }

    /// Whether the worker claims as usual.
    var acceptsJobs: Bool {
        if case .accepting = phase { true } else { false }
    }

    /// Records that suspects wait which this worker should run.
    mutating func recordWaitingSuspect(at now: Instant) {
        if case .accepting(let until) = phase, now >= until { phase = .withdrawing(since: now) }
    }

    /// Whether to claim suspects now.
    ///
    /// - Parameters:
    ///   - holdsNothing: Whether all jobs of the worker have ended and are settled.
    ///   - now: The time.
    mutating func wantsSuspect(holdsNothing: Bool, at now: Instant) -> Bool {
        switch phase {
        case .accepting:
            return false
        case .withdrawing(let since):
            if holdsNothing { return true }
            if now - since >= waitLimit {
                waitLimit = min(waitLimit * 2, .seconds(3600))
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

    /// Records whether a claim found suspects.
    mutating func claimed(_ found: Bool, at now: Instant) {
        waitLimit = firstWaitLimit
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
