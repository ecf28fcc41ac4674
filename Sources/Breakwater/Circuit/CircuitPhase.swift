/// The three states of a circuit.
public enum CircuitPhase: String, Sendable, Equatable {
    /// Calls run, and are counted. Goes to `open` when too many of them fail or are slow.
    case closed
    /// Nothing runs. Goes to `halfOpen` when its open time is over.
    case open
    /// A few probes run. Goes to `closed` when enough of them succeed, to `open` when one fails.
    case halfOpen = "half_open"
}

/// How a circuit is taken out of the breaker's hands, by people.
public enum CircuitOverride: String, Sendable, Equatable, CaseIterable {
    /// Held open: nothing runs.
    case open
    /// Held closed: everything runs, whatever becomes of it.
    case closed
    /// Switched off: everything runs, and nothing is counted.
    case disabled
    /// Everything runs and is counted, and it is said once when the circuit would have opened.
    case metricsOnly = "metrics_only"
}

/// A circuit's step from one state to another.
public struct CircuitTransition: Sendable, Equatable {
    /// The state it left.
    public var from: CircuitPhase
    /// The state it is in since.
    public var to: CircuitPhase
    /// The number of the new state, one higher than the one before.
    ///
    /// A circuit that is watched only (``CircuitOverride/metricsOnly``) announces that it would have opened: from closed
    /// to closed, under the generation that it has.
    public var generation: Int64
    /// Why, in words: the counts that opened it, for example.
    public var reason: String
    /// The person or program that asked for it; nil when the breaker decided.
    public var actor: String?

    /// - Parameters:
    ///   - from: The state it left.
    ///   - to: The state it is in since.
    ///   - generation: The number of the new state.
    ///   - reason: Why, in words.
    ///   - actor: Who asked for it; nil when the breaker decided. Defaults to nil.
    public init(from: CircuitPhase, to: CircuitPhase, generation: Int64, reason: String, actor: String? = nil) {
        self.from = from
        self.to = to
        self.generation = generation
        self.reason = reason
        self.actor = actor
    }
}
