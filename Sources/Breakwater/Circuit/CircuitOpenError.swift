/// The error that a call was not made because its circuit does not let it through now.
///
/// A handler that does not catch this error spends no attempt. Its job is snoozed until the circuit may let calls
/// through again.
public struct CircuitOpenError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The name of the circuit.
    public var circuit: String
    /// The state of the circuit: open, half-open with all its probes running, or closed and still ramping up.
    public var phase: CircuitPhase
    /// How long until the next probe; nil if unknown because a user holds the circuit open, or because it waits for
    /// running probes.
    public var retryAfter: Duration?

    /// - Parameters:
    ///   - circuit: The name of the circuit.
    ///   - phase: The state of the circuit.
    ///   - retryAfter: How long until the next probe, if that is known.
    public init(circuit: String, phase: CircuitPhase, retryAfter: Duration?) {
        self.circuit = circuit
        self.phase = phase
        self.retryAfter = retryAfter
    }

    /// A description for people.
    public var description: String {
        let state =
            switch phase {
            case .open: "is open"
            case .halfOpen: "is half-open, and all its probes are under way"
            case .closed: "has just closed, and ramps up"
            }
        let next = retryAfter.map { "; try again in \($0)" } ?? ""
        return "the circuit of \(circuit) \(state)\(next)"
    }

    /// The outcome of a job whose handler throws this error.
    var outcome: JobOutcome { .snoozed(max(retryAfter ?? .zero, .seconds(1))) }
}
