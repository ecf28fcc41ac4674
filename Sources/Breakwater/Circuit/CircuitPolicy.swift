/// When a circuit opens, for how long, and how it closes again. One policy rules the whole fleet.
///
/// The defaults lean on resilience4j (50%, 60 s open, half-open permits, slow calls at 100%), Polly (a minimum before
/// the rate speaks) and Finagle (open time that grows, with equal jitter); each property says what is different here.
public struct CircuitPolicy: Sendable, Equatable {
    /// Which calls count for the rates.
    public enum Window: Sendable, Equatable {
        /// Calls that ended at most this long ago, in slots of one second; 1 second to 1 day.
        case time(Duration)
        /// This many of the latest calls; 1 to 10,000.
        case calls(Int)
    }

    /// Which circuit a job's call belongs to.
    public enum Key: Sendable, Equatable {
        /// A circuit for each value at this path of the payload, such as a host or a tenant. Jobs whose payload has
        /// nothing there belong to the kind's own circuit.
        case path([String])
        /// One circuit shared by every handler that names it, for a dependency that several kinds use.
        case shared(String)
    }

    /// What becomes of the jobs that wait while the circuit is open.
    public enum Fallback: Sendable, Equatable {
        /// They wait, and cost nothing.
        case hold
        /// They go to the dead letters, for the reason `circuit_open`.
        case deadLetter
        /// They end with this JSON text as their result.
        case succeed(result: String)
        /// They become jobs of this kind instead.
        case reroute(kind: String)
    }

    /// Whether the kind has a circuit at all. Defaults to true.
    public var isEnabled = true
    /// The share of failed calls in the window, above 0 and up to 1, at which the circuit opens; nil for never.
    /// Defaults to 0.5, as resilience4j and Hystrix have it.
    public var failureRate: Double? = 0.5
    /// How long a call takes to count as slow; nil if none does. Defaults to nil.
    public var slowCall: Duration?
    /// The share of slow calls in the window, above 0 and up to 1, at which the circuit opens; without effect unless
    /// ``slowCall`` is set. Defaults to 1, as resilience4j has it.
    public var slowRate = 1.0
    /// Which calls count for the rates. Defaults to the last 60 seconds.
    public var window = Window.time(.seconds(60))
    /// How many calls must be in the window before the rates count; at least 1, and no more than a window by calls
    /// holds. Defaults to 20, as Hystrix has it.
    public var minimumCalls = 20
    /// How many failures in a row open the circuit, however few calls there were; nil for never. Defaults to 10.
    public var consecutiveFailures: Int? = 10
    /// Names of failures that count as failed calls although their outcome would be ignored. Defaults to none.
    ///
    /// A name may end in `*`, here and below: `http.4*`.
    public var countOn: [String] = []
    /// Names of failures that the circuit ignores. Defaults to none.
    public var ignoreOn: [String] = []
    /// Names of failures that open the circuit at once. Defaults to none.
    public var tripOn: [String] = []
    /// Whether a `Retry-After` of the dependency sets the open time when its call opens the circuit, and whether a
    /// throttled call (429) with one opens it. Defaults to false.
    public var honoursRetryAfter = false
    /// How long the circuit stays open the first time, half of it for certain and half by chance (equal jitter).
    /// Defaults to 30 seconds.
    public var openFor = Duration.seconds(30)
    /// What each re-opening multiplies the open time by; 1 to 1000. Defaults to 2.
    public var openFactor = 2.0
    /// The open time never exceeds this, `Retry-After` included; at most a year. Defaults to 10 minutes.
    public var openCap = Duration.seconds(600)
    /// How many jobs a half-open circuit lets through at once, in the whole fleet; at least 1. Defaults to 3.
    public var probes = 3
    /// How many probes must succeed to close the circuit; at least 1. Defaults to 3.
    public var successesToClose = 3
    /// A circuit that is half-open for this long without a decision re-opens; nil for never. Defaults to nil.
    public var halfOpenFor: Duration?
    /// For this long after closing, a worker's share of its concurrency grows from a tenth to all of it; zero admits
    /// everything at once. Defaults to 10 seconds.
    public var ramp = Duration.seconds(10)
    /// Whether a worker whose calls fail while the others' succeed is suspended for the kind, instead of opening the
    /// fleet's circuit. Defaults to true.
    public var suspendsWorkers = true
    /// Which circuit a job's call belongs to; nil for the kind's own. Defaults to nil.
    public var key: Key?
    /// What becomes of waiting jobs while it is open. Defaults to hold.
    public var fallback = Fallback.hold

    /// The defaults.
    public init() {}

    /// Whether a value of each payload decides which circuit its job belongs to.
    var hasOwnKeys: Bool {
        if case .path = key { true } else { false }
    }
}
