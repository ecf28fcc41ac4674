/// The rules of one circuit as a value: time, chance and the ends of calls come in, transitions come out.
///
/// They are the same as those of `sql/0001_initial/50_circuit.sql` and the files after it, which rule the fleet's circuits;
/// a test runs both side by side. Times are counted from any fixed moment and never go back.
///
/// ```
///               failure rate, slow rate, a streak, or one call that trips
///     closed ───────────────────────────────────────────────────────────▶ open ◀─────────┐
///       ▲                                                                   │ retryAt     │ a probe fails, or no
///       │                 successesToClose probes                           ▼             │ decision for too long
///       └──────────────────────────────────────────────────────────────── halfOpen ──────┘
/// ```
///
/// Besides, people move it to open or closed from anywhere (see `Circuit+override.swift`).
struct Circuit: Sendable {
    enum State: Sendable, Equatable {
        /// Calls run, and are counted; until `rampUntil`, only a share of the usual ones. Goes to `open`.
        case closed(rampUntil: Duration?)
        /// Nothing runs. Goes to `halfOpen` once `retryAt` has come; nil while somebody holds it open.
        case open(retryAt: Duration?)
        /// At most `policy.probes` calls run at once. Goes to `closed` after enough successes; to `open` when one fails,
        /// is slow where slow calls count, or when there is no decision for `policy.halfOpenFor`.
        case halfOpen(successes: Int)

        var phase: CircuitPhase {
            switch self {
            case .closed: .closed
            case .open: .open
            case .halfOpen: .halfOpen
            }
        }
    }

    /// Somebody's hand on the circuit, until a time or until it is reset.
    struct Hold: Sendable, Equatable {
        var override: CircuitOverride
        var until: Duration?
        var actor: String
    }

    /// What a circuit lets through.
    struct Admission: Sendable, Equatable {
        var count: Int
        /// What the calls belong to: their results change nothing under another generation.
        var generation: Int64
        /// Whether a lease must be written down for each, with ``Circuit/lease(probe:until:)``.
        var isProbe: Bool
    }

    let policy: CircuitPolicy
    /// The tests that compare this value with the database's circuits write the database's jitter into it.
    var state = State.closed(rampUntil: nil)
    /// Raised by every transition.
    private(set) var generation: Int64 = 1
    private(set) var since: Duration
    /// Why it is in this state, in words.
    private(set) var reason = "new"
    /// How often it re-opened since it was last closed.
    var reopened = 0
    private(set) var hold: Hold?
    /// What was counted in this generation.
    var window: CircuitWindow
    /// Whether it was said in this generation that it would have opened.
    var isAnnounced = false
    /// Probe leases by the number of the call, with the time when they end by themselves. They outlive the state: there
    /// are never more than `policy.probes` of them alive, whatever generation they are of.
    private(set) var probes: [Int64: Duration] = [:]
    private var transitions: [CircuitTransition] = []

    init(policy: CircuitPolicy, now: Duration) {
        self.policy = policy
        since = now
        window = CircuitWindow(policy.window)
    }

    /// The transitions since this was last called, in order.
    mutating func takeTransitions() -> [CircuitTransition] {
        defer { transitions = [] }
        return transitions
    }

    // MARK: Time

    /// Makes the transition that time alone makes, if one is due.
    mutating func turn(at now: Duration, using generator: inout some RandomNumberGenerator) {
        if let hold {
            if let until = hold.until, until <= now {
                move(to: .closed, "\(hold.override.rawValue) until its time", at: now, using: &generator)
            }
            return
        }
        switch state {
        case .closed: break
        case .open(let retryAt?) where retryAt <= now:
            move(to: .halfOpen, "its open time is over", at: now, using: &generator)
        case .open: break
        case .halfOpen:
            if let limit = policy.halfOpenFor, since <= now - limit {
                move(to: .open, "half-open for too long", at: now, using: &generator)
            }
        }
    }

    // MARK: Admission

    /// How many calls it lets through. An open circuit whose time has come becomes half-open.
    ///
    /// - Parameters:
    ///   - wanted: How many are asked for.
    ///   - running: How many calls the asker runs already.
    ///   - concurrency: How many calls the asker may run at once, for the share of them while the circuit ramps up; nil
    ///     to do without a ramp.
    ///   - now: The time.
    ///   - generator: The source of the jitter.
    mutating func admit(
        _ wanted: Int,
        running: Int = 0,
        concurrency: Int? = nil,
        at now: Duration,
        using generator: inout some RandomNumberGenerator
    ) -> Admission {
        if case .open(let retryAt?) = state, hold == nil, retryAt <= now {
            move(to: .halfOpen, "its open time is over", at: now, using: &generator)
        }
        var admission = Admission(count: wanted, generation: generation, isProbe: false)
        switch state {
        case .closed(let rampUntil):
            if let rampUntil, rampUntil > now, let concurrency {
                admission.count = min(wanted, policy.rampPermits(of: concurrency, left: rampUntil - now) - running)
            }
        case .open:
            admission.count = 0
        case .halfOpen:
            admission.isProbe = true
            admission.count = min(wanted, policy.probes - liveProbes(at: now))
        }
        admission.count = max(0, admission.count)
        return admission
    }

    /// How many probe leases there are that have not ended.
    func liveProbes(at now: Duration) -> Int { probes.values.count { $0 > now } }

    /// Writes down the lease of a probe that was admitted. It ends with ``free(probe:)``, or by itself.
    mutating func lease(probe call: Int64, until end: Duration) { probes[call] = end }

    /// The probe has ended, whichever way: another may take its place.
    mutating func free(probe call: Int64) { probes[call] = nil }

    // MARK: Transitions

    /// The one way from a state to another: a new generation with an empty window.
    mutating func move(
        to phase: CircuitPhase,
        _ reason: String,
        actor: String? = nil,
        retryAfter: Duration? = nil,
        at now: Duration,
        using generator: inout some RandomNumberGenerator
    ) {
        let old = state.phase
        switch (old, phase) {
        case (_, .closed), (.closed, _): reopened = 0
        case (.halfOpen, .open): reopened = min(reopened, Int(Int32.max) - 1) + 1
        default: break
        }
        switch phase {
        case .closed:
            let ramps = old != .closed && actor == nil
            state = .closed(rampUntil: ramps ? now + policy.ramp : nil)
        case .open:
            let time = policy.openTime(reopened: reopened, retryAfter: retryAfter, using: &generator)
            state = .open(retryAt: now + time)
        case .halfOpen:
            state = .halfOpen(successes: 0)
        }
        generation += 1
        since = now
        self.reason = reason
        hold = nil
        isAnnounced = false
        window = CircuitWindow(policy.window)
        transitions.append(
            CircuitTransition(from: old, to: phase, generation: generation, reason: reason, actor: actor)
        )
    }

    /// Says, once in this generation, that the circuit would have opened.
    mutating func announce(_ reason: String) {
        guard !isAnnounced else { return }
        isAnnounced = true
        transitions.append(
            CircuitTransition(
                from: .closed,
                to: .closed,
                generation: generation,
                reason: "would have opened: \(reason)"
            )
        )
    }

    /// Takes the circuit out of the breaker's hands, or, with nil, gives it back, closed and with nothing counted.
    /// A pending automatic transition is cancelled.
    mutating func override(
        _ override: CircuitOverride?,
        reason: String,
        actor: String,
        until: Duration? = nil,
        at now: Duration,
        using generator: inout some RandomNumberGenerator
    ) {
        move(to: override == .open ? .open : .closed, reason, actor: actor, at: now, using: &generator)
        if override == .open { state = .open(retryAt: nil) }
        hold = override.map { Hold(override: $0, until: until, actor: actor) }
    }
}
