/// The state of a ``CircuitBreaker`` at a moment.
public struct CircuitSnapshot: Sendable, Equatable {
    /// The state.
    public var phase: CircuitPhase
    /// The number of the state, which every transition increases; 1 for a new circuit.
    public var generation: Int64
    /// How long the circuit has been in this state.
    public var age: Duration
    /// The reason for the state, in words.
    public var reason: String
    /// How long an open circuit waits until probing may begin; nil while a user holds it open without an end.
    public var retryAfter: Duration?
    /// How often the circuit opened again since it was last closed.
    public var reopened: Int
    /// How many probes of a half-open circuit have succeeded.
    public var successes: Int
    /// How many probes are running.
    public var probes: Int
    /// How many calls the window holds.
    public var calls: Int
    /// How many of the calls in the window failed.
    public var failed: Int
    /// How many of the calls in the window were slow.
    public var slow: Int
    /// The number of failures since the last success.
    public var failuresInARow: Int
    /// The override by a user; nil if there is none.
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
    /// How long until an open circuit may change by itself; nil when it is not open, or is held open without an end.
    func retryAfter(at now: Duration) -> Duration? {
        guard case .open(let retryAt) = state, let end = hold == nil ? retryAt : hold?.until else { return nil }
        return max(.zero, end - now)
    }
}
