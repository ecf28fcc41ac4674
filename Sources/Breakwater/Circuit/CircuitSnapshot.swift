/// What a ``CircuitBreaker`` was like at a moment.
public struct CircuitSnapshot: Sendable, Equatable {
    /// The state.
    public var phase: CircuitPhase
    /// The number of the state, raised by every transition; 1 for a new circuit.
    public var generation: Int64
    /// How long it has been in this state.
    public var age: Duration
    /// Why it is in this state, in words.
    public var reason: String
    /// While open, how long until probing may begin; nil while a user holds it open without an end.
    public var retryAfter: Duration?
    /// How often it re-opened since it was last closed.
    public var reopened: Int
    /// While half-open, how many probes succeeded.
    public var successes: Int
    /// How many probes run.
    public var probes: Int
    /// How many calls the window holds.
    public var calls: Int
    /// Of the calls in the window, how many failed.
    public var failed: Int
    /// Of the calls in the window, how many were slow.
    public var slow: Int
    /// Failures since the last success.
    public var failuresInARow: Int
    /// How a user has overridden the circuit; nil if no user has.
    public var override: CircuitOverride?
}

extension CircuitSnapshot {
    init(of circuit: Circuit, at now: Duration) {
        var window = circuit.window
        let counts = window.counts(at: now)
        phase = circuit.state.phase
        generation = circuit.generation
        age = now - circuit.since
        reason = circuit.reason
        retryAfter = circuit.retryAfter(at: now)
        reopened = circuit.reopened
        if case .halfOpen(let round) = circuit.state { successes = round.successes } else { successes = 0 }
        probes = circuit.liveProbes(at: now)
        (calls, failed, slow) = (counts.calls, counts.failed, counts.slow)
        failuresInARow = window.streak
        override = circuit.hold?.override
    }
}

extension Circuit {
    /// While open, how long until it may change by itself; nil when it is not open, or held open without an end.
    func retryAfter(at now: Duration) -> Duration? {
        guard case .open(let retryAt) = state, let end = hold == nil ? retryAt : hold?.until else { return nil }
        return max(.zero, end - now)
    }
}
