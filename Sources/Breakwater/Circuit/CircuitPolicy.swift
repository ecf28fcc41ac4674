/// When the circuit of a kind opens, for how long, and how it closes again. One policy rules the whole fleet.
public struct CircuitPolicy: Sendable, Equatable {
    /// What becomes of the jobs that wait while the circuit is open.
    public enum Fallback: Sendable, Equatable {
        /// They wait, and cost nothing.
        case hold
        /// They go to the dead letters, for the reason `circuit_open`.
        case deadLetter
        /// They end with this JSON text as their result.
        case succeed(result: String)
    }

    /// Whether the kind has a circuit at all. Defaults to true.
    public var isEnabled = true
    /// The share of failed calls in the window, from 0 (exclusive) to 1, at which the circuit opens; nil for never.
    /// Defaults to 0.5.
    public var failureRate: Double? = 0.5
    /// How far back calls count for the rate; at least 1 second. Defaults to 60 seconds.
    public var window = Duration.seconds(60)
    /// The rate says nothing before this many calls are in the window; at least 1. Defaults to 20.
    public var minimumCalls = 20
    /// So many failures in a row open the circuit, however few calls there were; nil for never. Defaults to 10.
    public var consecutiveFailures: Int? = 10
    /// How long the circuit stays open the first time. Defaults to 30 seconds.
    public var openFor = Duration.seconds(30)
    /// What each re-opening multiplies the open time by; at least 1. Defaults to 2.
    public var openFactor = 2.0
    /// The open time never exceeds this. Defaults to 10 minutes.
    public var openCap = Duration.seconds(600)
    /// How many jobs a half-open circuit lets through at once, in the whole fleet; at least 1. Defaults to 3.
    public var probes = 3
    /// How many probes must succeed to close the circuit; at least 1. Defaults to 3.
    public var successesToClose = 3
    /// What becomes of waiting jobs while it is open. Defaults to hold.
    public var fallback = Fallback.hold

    /// The defaults.
    public init() {}
}
