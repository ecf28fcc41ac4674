/// The three states of a circuit.
public enum CircuitPhase: String, Sendable, Equatable {
    /// Calls run, and are counted. Goes to `open` when too many of them fail or are slow.
    case closed
    /// Nothing runs. Goes to `halfOpen` when its open time is over.
    case open
    /// A few probes run. Goes to `closed` when enough of them succeed, to `open` when too many fail.
    case halfOpen = "half_open"
}

/// How a user can override a circuit.
public enum CircuitOverride: String, Sendable, Equatable, CaseIterable {
    /// Held open: nothing runs.
    case open
    /// Held closed: everything runs, however many calls fail.
    case closed
    /// Switched off: everything runs, and nothing is counted.
    case disabled
    /// Everything runs and is counted, and one transition announces that the circuit would have opened.
    case metricsOnly = "metrics_only"
}

/// A circuit's step from one state to another.
public struct CircuitTransition: Sendable, Equatable {
    /// The state it left.
    public var from: CircuitPhase
    /// The state it entered.
    public var to: CircuitPhase
    /// The number of the new state, one higher than the one before.
    ///
    /// A circuit that is only watched (``CircuitOverride/metricsOnly``) announces that it would have opened with a
    /// transition from closed to closed, under the generation that it has.
    public var generation: Int64
    /// Why, in words: the counts that opened it, for example.
    public var reason: String
    /// The person or program that asked for it; nil when the breaker decided.
    public var actor: String?

    /// - Parameters:
    ///   - from: The state it left.
    ///   - to: The state it entered.
    ///   - generation: The number of the new state.
    ///   - reason: Why, in words.
    ///   - actor: The person or program that asked for it; nil when the breaker decided. Defaults to nil.
    public init(from: CircuitPhase, to: CircuitPhase, generation: Int64, reason: String, actor: String? = nil) {
        self.from = from
        self.to = to
        self.generation = generation
        self.reason = reason
        self.actor = actor
    }
}
