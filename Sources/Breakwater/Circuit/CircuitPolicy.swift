/// The rules by which a circuit opens and closes. One policy applies to the whole fleet.
///
/// The defaults follow resilience4j (50%, 60 s open, half-open permits, slow calls at 100%), Polly (a minimum number of
/// calls for the rate) and Finagle (open time that grows, with equal jitter). Each property says what is different
/// here.
public struct CircuitPolicy: Sendable, Equatable {
    /// The calls that count for the rates.
    public enum Window: Sendable, Equatable {
        /// Calls that ended at most this long ago, in slots of one second; 1 second to 1 day.
        case time(Duration)
        /// This many of the latest calls; 1 to 10,000.
        case calls(Int)
    }

    /// The rule that assigns a job's call to a circuit.
    public enum Key: Sendable, Equatable {
        /// A circuit for each value at this path of the payload, such as a host or a tenant. Jobs without a value there
        /// belong to the kind's own circuit.
        case path([String])
        /// One circuit shared by every handler that names it, for a dependency that several kinds use.
        case shared(String)
    }

    /// What happens to jobs that wait while the circuit is open.
    public enum Fallback: Sendable, Equatable {
        /// The jobs wait, and spend no attempts.
        case hold
        /// The jobs are dead-lettered with the reason `circuit_open`.
        case deadLetter
        /// The jobs succeed with this JSON text as their result.
        case succeed(result: String)
        /// The jobs become jobs of this kind.
        case reroute(kind: String)
    }

    /// Whether the kind has a circuit at all. Defaults to true.
    public var isEnabled = true
    /// The share of failed calls in the window, above 0 and up to 1, at which the circuit opens; nil for never.
    /// Defaults to 0.5, as in resilience4j and Hystrix.
    public var failureRate: Double? = 0.5
    /// How long a call takes to count as slow, 1 millisecond or more; nil if none does. Defaults to nil.
    public var slowCall: Duration?
    /// The share of slow calls in the window, above 0 and up to 1, at which the circuit opens. It has no effect unless
    /// ``slowCall`` is set. Defaults to 1, as in resilience4j.
    public var slowRate = 1.0
    /// The calls that count for the rates. Defaults to the last 60 seconds.
    public var window = Window.time(.seconds(60))
    /// How many calls must be in the window before the rates count; 1 to 1,000,000, and at most the size of a window
    /// of calls. Defaults to 20, as in Hystrix.
    public var minimumCalls = 20
    /// How many failures in a row open the circuit, however few calls there were; 1 to 1,000,000, nil for never.
    /// Defaults to 10.
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
    /// How long the circuit stays open the first time. Half of this time is fixed and half is random (equal jitter).
    /// At least 1 millisecond. Defaults to 30 seconds.
    public var openFor = Duration.seconds(30)
    /// The factor by which each further opening multiplies the open time; 1 to 1000. Defaults to 2.
    public var openFactor = 2.0
    /// The longest open time, also for `Retry-After`; ``openFor`` to 366 days. Defaults to 10 minutes.
    public var openCap = Duration.seconds(600)
    /// How many jobs a half-open circuit lets through at once, in the whole fleet; 1 to 10,000. Defaults to 3.
    public var probes = 3
    /// How many probes must succeed to close the circuit; 1 to 10,000. Defaults to 3.
    public var successesToClose = 3
    /// How long the circuit may be half-open without a decision before it opens again; 1 second to 3650 days, nil for
    /// no limit. Defaults to nil.
    public var halfOpenFor: Duration?
    /// How long after closing a worker may use only a share of its concurrency, which grows from a tenth to all of it.
    /// Zero admits everything at once; at most 3650 days. Defaults to 10 seconds.
    public var ramp = Duration.seconds(10)
    /// Whether a worker whose calls fail while those of others succeed is suspended for the kind, instead of opening
    /// the fleet's circuit. Defaults to true.
    public var suspendsWorkers = true
    /// The rule that assigns a job's call to a circuit; nil for the kind's own circuit. Defaults to nil.
    public var key: Key?
    /// What happens to waiting jobs while the circuit is open. Defaults to hold.
    public var fallback = Fallback.hold

    /// The defaults.
    public init() {}

    /// Whether a payload value decides which circuit a job belongs to.
    var hasOwnKeys: Bool {
        if case .path = key { true } else { false }
    }
}
