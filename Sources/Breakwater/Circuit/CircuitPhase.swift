/// The three states of a circuit.
public enum CircuitPhase: String, Sendable, Equatable, Decodable {
    /// Calls run and are counted. Goes to `open` when too many of them fail or are slow.
    case closed
    /// No calls run. Goes to `halfOpen` when the open time has elapsed.
    case open
    /// A few probes run. Goes to `closed` when enough of them succeed, to `open` when too many fail.
    case halfOpen = "half_open"
}

/// How a user can override a circuit.
public enum CircuitOverride: String, Sendable, Equatable, CaseIterable, Decodable {
    /// The circuit is held open: no calls run.
    case open
    /// The circuit is held closed: all calls run, however many fail.
    case closed
    /// The circuit is switched off: all calls run, and none are counted.
    case disabled
    /// All calls run and are counted, and one transition announces that the circuit would have opened.
    case metricsOnly = "metrics_only"
}

/// A circuit's change from one state to another.
public struct CircuitTransition: Sendable, Equatable {
    /// The state that the circuit left.
    public var from: CircuitPhase
    /// The state that the circuit entered.
    public var to: CircuitPhase
    /// The number of the new state, which is one higher than the previous one.
    ///
    /// A circuit that only counts (``CircuitOverride/metricsOnly``) announces that it would have opened by a transition
    /// from closed to closed with its current generation.
    public var generation: Int64
    /// The reason in words, such as the counts that opened the circuit.
    public var reason: String
    /// The person or program that requested the transition; nil when the breaker decided.
    public var actor: String?

    /// - Parameters:
    ///   - from: The state that the circuit left.
    ///   - to: The state that the circuit entered.
    ///   - generation: The number of the new state.
    ///   - reason: The reason, in words.
    ///   - actor: The person or program that requested the transition; nil when the breaker decided. Defaults to nil.
    public init(from: CircuitPhase, to: CircuitPhase, generation: Int64, reason: String, actor: String? = nil) {
        self.from = from
        self.to = to
        self.generation = generation
        self.reason = reason
        self.actor = actor
    }
}
