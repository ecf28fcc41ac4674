/// The rules of one circuit as a value: time, chance and the ends of calls come in, transitions come out.
///
/// They are the same as those of `sql/0001_initial/50_circuit.sql` and the files after it, which rule the fleet's
/// circuits; a test runs both side by side. Times are counted from any fixed moment and never go back.
///
/// ```
///               failure rate, slow rate, a streak, or one call that trips
///     closed ───────────────────────────────────────────────────────────▶ open ◀─────────┐
///       ▲                                                                   │ retryAt     │ too many probes fail, or
///       │            enough probes of a round succeed                       ▼             │ no decision for too long
///       └──────────────────────────────────────────────────────────────── halfOpen ──────┘
/// ```
///
/// If `checksFirst` is set, a circuit that opened by its own rules is probed at once, because what looks like an outage
/// may be some bad jobs. The fleet's circuits do so: jobs wait there, and probes can sample them.
///
/// A user can also move it to open or closed from any state (see ``override(_:reason:actor:until:at:using:)``).
struct Circuit: Sendable {
    enum State: Sendable, Equatable {
        /// Calls run, and are counted; while it ramps up, only a share of the usual ones. Goes to `open`.
        case closed(Ramp?)
        /// Nothing runs. Goes to `halfOpen` once `retryAt` has come; nil while a user holds it open.
        case open(retryAt: Duration?)
        /// At most `policy.probes` calls run at once. Goes to `closed` or to `open` when enough of them have ended to
        /// tell, and to `open` when there is no decision for `policy.halfOpenFor`.
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
        /// How long it takes in all.
        var length: Duration
    }

    /// How the probes of one half-open state have ended so far.
    struct Round: Sendable, Equatable {
        var successes = 0
        var failures = 0
        var slow = 0
        /// The longest time for which one of them asked to be left alone.
        var askedFor: Duration?

        var calls: Int { successes + failures }
    }

    /// A user's override of the circuit, until a time or until it is reset.
    struct Hold: Sendable, Equatable {
        var override: CircuitOverride
        var until: Duration?
        var actor: String
    }

    /// What a circuit lets through.
    struct Admission: Sendable, Equatable {
        var count: Int
        /// The generation of the calls: under another one their results change nothing.
        var generation: Int64
        /// Whether a lease must be written down for each, with ``Circuit/lease(probe:until:)``.
        var isProbe: Bool
    }

    let policy: CircuitPolicy
    /// The tests that compare this value with the database's circuits write the database's jitter into it.
    var state = State.closed(nil)
    /// Raised by every transition.
    private(set) var generation: Int64 = 1
    private(set) var since: Duration
    /// Why it is in this state, in words.
    private(set) var reason = "new"
    /// How often it opened again, since it was last closed for as long as it had been open.
    var reopened = 0
    /// While it is not closed: when it opened.
    private(set) var openedAt: Duration?
    /// How long it was open before it last closed. If an outage came back soon, its open times are added up.
    private(set) var wasOpenFor = Duration.zero
    /// Whether the first round of probes since it opened is over. If that round closes it, the opening was a false
    /// alarm.
    private(set) var isChecked = true
    /// When a round of probes last failed. Until then the dependency was down for certain.
    private(set) var wasDownAt: Duration?
    /// How many more false alarms came soon after the first one; nil if the last opening was not a false alarm.
    private(set) var falseAlarms: Int?
    /// Whether it is probed at once when it opens by its own rules.
    let checksFirst: Bool
    private(set) var hold: Hold?
    /// What was counted in this generation.
    var window: CircuitWindow
    /// Whether it was announced in this generation that the circuit would have opened.
    var isAnnounced = false
    /// Probe leases by the number of the call, with the time when they end by themselves. They outlive the state: over
    /// all generations, never more than `policy.probes` of them are alive.
    private(set) var probes: [Int64: Duration] = [:]
    private var transitions: [CircuitTransition] = []

    init(policy: CircuitPolicy, now: Duration, checksFirst: Bool = false) {
        self.policy = policy
        self.checksFirst = checksFirst
        since = now
        window = CircuitWindow(policy.window)
    }

    /// The transitions since this was last called, in order.
    mutating func takeTransitions() -> [CircuitTransition] {
        defer { transitions = [] }
        return transitions
    }

    // MARK: Time

    /// Makes the transition that only the passing of time brings, if one is due.
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
    ///   - running: How many calls the caller runs already.
    ///   - concurrency: How many calls the caller may run at once. While the circuit ramps up, it admits a share of
    ///     them; nil disregards the ramp.
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

    /// How many probe leases there are that have not ended.
    func liveProbes(at now: Duration) -> Int { probes.values.count { $0 > now } }

    /// Writes down the lease of a probe that was admitted. It ends with ``free(probe:)``, or by itself.
    mutating func lease(probe call: Int64, until end: Duration) { probes[call] = end }

    /// The probe has ended, whether it succeeded or not: another may take its place.
    mutating func free(probe call: Int64) { probes[call] = nil }

    // MARK: Transitions

    /// The only way from one state to another. It starts a new generation with an empty window.
    ///
    /// - Parameters:
    ///   - phase: Where to.
    ///   - reason: Why, in words.
    ///   - actor: The person or program that asked for it; nil if the rules decided.
    ///   - retryAfter: How long the dependency asked to be left alone.
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

    /// Remembers what later openings depend on: whether this is an outage that came back, or one more false alarm.
    private mutating func remember(
        _ old: CircuitPhase,
        _ phase: CircuitPhase,
        actor: String?,
        isCheckedFirst: Bool,
        at now: Duration
    ) {
        if actor != nil {
            // After a user's decision all of this starts over.
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

    /// Announces, once in this generation, that the circuit would have opened.
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

    /// Overrides the circuit; nil ends the override, and the circuit starts over, closed and with nothing counted. A
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
