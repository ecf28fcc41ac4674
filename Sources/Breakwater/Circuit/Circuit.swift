/// The rules of one circuit as a pure value, which takes times, random numbers and the results of calls, and produces
/// transitions.
///
/// The rules are the same as those of `sql/0001_initial/50_circuit.sql` and the files after it, which govern the
/// fleet's circuits. A test compares both. Times are relative to any fixed moment and never decrease.
///
/// ```
///               failure rate, slow rate, a streak, or one call that trips
///     closed ───────────────────────────────────────────────────────────▶ open ◀─────────┐
///       ▲                                                                   │ retryAt     │ too many probes fail, or
///       │            enough probes of a round succeed                       ▼             │ no decision for too long
///       └──────────────────────────────────────────────────────────────── halfOpen ──────┘
/// ```
///
/// If `checksFirst` is set, a circuit that opened by its own rules is probed at once, because some bad jobs may have
/// looked like an outage. The fleet's circuits do this, because their waiting jobs can be sampled as probes.
///
/// A user can also move it to open or closed from any state (see ``override(_:reason:actor:until:at:using:)``).
struct Circuit: Sendable {
    enum State: Sendable, Equatable {
        /// Calls run and are counted. While the circuit ramps up, only a share of the usual calls runs. Goes to `open`.
        case closed(Ramp?)
        /// No calls run. Goes to `halfOpen` at `retryAt`, which is nil while a user holds the circuit open.
        case open(retryAt: Duration?)
        /// At most `policy.probes` calls run at once. Goes to `closed` or `open` when enough of them have ended to
        /// decide, and to `open` when there is no decision for `policy.halfOpenFor`.
        case halfOpen(Round)

        var phase: CircuitPhase {
            switch self {
            case .closed: .closed
            case .open: .open
            case .halfOpen: .halfOpen
            }
        }
    }

    /// How admission grows after the circuit has closed.
    struct Ramp: Sendable, Equatable {
        var until: Duration
        /// The length of the whole ramp.
        var length: Duration
    }

    /// The results so far of the probes of one half-open state.
    struct Round: Sendable, Equatable {
        var successes = 0
        var failures = 0
        var slow = 0
        /// The longest `retryAfter` of the probes.
        var askedFor: Duration?

        var calls: Int { successes + failures }
    }

    /// A user's override of the circuit, until a time or until it is reset.
    struct Hold: Sendable, Equatable {
        var override: CircuitOverride
        var until: Duration?
        var actor: String
    }

    /// The calls that a circuit admits.
    struct Admission: Sendable, Equatable {
        var count: Int
        /// The generation of the calls. If it has changed when they end, their results change nothing.
        var generation: Int64
        /// Whether a lease must be recorded for each call with ``Circuit/lease(probe:until:)``.
        var isProbe: Bool
    }

    let policy: CircuitPolicy
    /// The state. Tests that compare this value with the database's circuits write the database's jitter into it.
    var state = State.closed(nil)
    /// The number of the state, which every transition increases.
    private(set) var generation: Int64 = 1
    private(set) var since: Duration
    /// The reason for the state, in words.
    private(set) var reason = "new"
    /// How often the circuit opened again since it was last closed for as long as it had been open.
    var reopened = 0
    /// When the circuit opened; nil while it is closed.
    private(set) var openedAt: Duration?
    /// How long the circuit was open before it last closed. If an outage came back soon, its open times are added up.
    private(set) var wasOpenFor = Duration.zero
    /// Whether the first round of probes since the opening has ended. If that round closes the circuit, the opening was
    /// a false alarm.
    private(set) var isChecked = true
    /// When a round of probes last failed, which proves that the dependency was down until then.
    private(set) var wasDownAt: Duration?
    /// How many further false alarms followed the first one soon; nil if the last opening was not a false alarm.
    private(set) var falseAlarms: Int?
    /// Whether the circuit is probed at once when it opens by its own rules.
    let checksFirst: Bool
    private(set) var hold: Hold?
    /// The calls counted in this generation.
    var window: CircuitWindow
    /// Whether it was announced in this generation that the circuit would have opened.
    var isAnnounced = false
    /// Probe leases by the number of the call, with the time when they expire. They outlive the state: over all
    /// generations, at most `policy.probes` of them are alive.
    private(set) var probes: [Int64: Duration] = [:]
    private var transitions: [CircuitTransition] = []

    init(policy: CircuitPolicy, now: Duration, checksFirst: Bool = false) {
        self.policy = policy
        self.checksFirst = checksFirst
        since = now
        window = CircuitWindow(policy.window)
    }

    /// The transitions since the last call of this method, in order.
    mutating func drainTransitions() -> [CircuitTransition] {
        defer { transitions = [] }
        return transitions
    }

    // MARK: Time

    /// Makes the transition that is due because of the time, if there is one.
    mutating func applyDueTransition(at now: Duration, using generator: inout some RandomNumberGenerator) {
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

    /// Decides how many calls to admit. An open circuit whose open time has elapsed becomes half-open.
    ///
    /// - Parameters:
    ///   - wanted: How many calls are requested.
    ///   - running: How many calls the caller is running already.
    ///   - concurrency: How many calls the caller may run at once. While the circuit ramps up, it admits a share of
    ///     them; nil ignores the ramp.
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
        case .closed(let ramp):
            if let ramp, ramp.until > now, let concurrency {
                admission.count = min(wanted, ramp.permits(of: concurrency, at: now) - running)
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

    /// The number of probe leases that have not ended.
    func liveProbes(at now: Duration) -> Int { probes.values.count { $0 > now } }

    /// Records the lease of an admitted probe. It ends with ``free(probe:)``, or when it expires.
    mutating func lease(probe call: Int64, until end: Duration) { probes[call] = end }

    /// Ends the lease of a probe, whether it succeeded or not, so that another may take its place.
    mutating func free(probe call: Int64) { probes[call] = nil }

    // MARK: Transitions

    /// Changes the state. Every transition uses this method, which starts a new generation with an empty window.
    ///
    /// - Parameters:
    ///   - phase: The new state.
    ///   - reason: The reason, in words.
    ///   - actor: The person or program that requested the transition; nil if the rules decided.
    ///   - retryAfter: How long the dependency asked to wait.
    ///   - isCheckedFirst: Whether probes may begin at once, without any open time.
    ///   - now: The time.
    ///   - generator: The source of the jitter.
    mutating func move(
        to phase: CircuitPhase,
        _ reason: String,
        actor: String? = nil,
        retryAfter: Duration? = nil,
        isCheckedFirst: Bool = false,
        at now: Duration,
        using generator: inout some RandomNumberGenerator
    ) {
        let old = state.phase
        remember(old, phase, actor: actor, isCheckedFirst: isCheckedFirst, at: now)
        switch phase {
        case .closed:
            let length = policy.rampTime(falseAlarms: falseAlarms)
            state = .closed(old != .closed && actor == nil ? Ramp(until: now + length, length: length) : nil)
        case .open:
            let time = policy.openTime(reopened: reopened, retryAfter: retryAfter, using: &generator)
            state = .open(retryAt: isCheckedFirst ? now : now + time)
        case .halfOpen:
            state = .halfOpen(Round())
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

    /// Updates the state that later openings depend on: whether this is an outage that came back, or a further false
    /// alarm.
    private mutating func remember(
        _ old: CircuitPhase,
        _ phase: CircuitPhase,
        actor: String?,
        isCheckedFirst: Bool,
        at now: Duration
    ) {
        if actor != nil {
            // A user's decision resets all of this.
            (reopened, wasOpenFor, falseAlarms, isChecked) = (0, .zero, nil, true)
            openedAt = nil
            return
        }
        switch (old, phase) {
        case (.closed, .open):
            let isRelapse = now - since < wasOpenFor
            reopened = isRelapse ? min(reopened, Int(Int32.max) - 1) + 1 : 0
            if !isRelapse { wasOpenFor = .zero }
            if let count = falseAlarms { falseAlarms = now - since < policy.relapseWindow ? min(count + 1, 10) : nil }
            isChecked = !isCheckedFirst
            openedAt = now
        case (.halfOpen, .open):
            if isChecked { reopened = min(reopened, Int(Int32.max) - 1) + 1 }
            isChecked = true
            wasDownAt = now
        case (.halfOpen, .closed) where !isChecked:
            falseAlarms = falseAlarms ?? 0
            openedAt = nil
        case (_, .closed):
            wasOpenFor += openedAt.map { now - $0 } ?? .zero
            falseAlarms = nil
            openedAt = nil
        default:
            break
        }
    }

    /// Announces once in this generation that the circuit would have opened.
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

    /// Overrides the circuit. Nil ends the override, and the circuit starts again as closed with empty counts. A
    /// pending automatic transition is cancelled.
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
