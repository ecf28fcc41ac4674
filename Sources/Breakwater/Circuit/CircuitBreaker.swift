import Synchronization

/// A circuit breaker around calls of your own: what a handler depends on besides its job, such as a cache or another
/// service.
///
/// ```swift
/// let geocoder = try CircuitBreaker(name: "geocoder", policy: policy)
///
/// struct PlaceOrder: JobHandler {
///     struct Payload: Codable { var address: String }
///
///     func handle(_ payload: Payload, context: JobContext) async throws -> JobOutcome {
///         let place = try await geocoder.call { try await geocode(payload.address) }
///         return try await deliver(to: place)
///     }
/// }
/// ```
///
/// While the circuit is open, `call` throws ``CircuitOpenError`` at once. A handler that lets that through spends no
/// attempt of its job.
///
/// The rules are those of the fleet's circuits, which open and close by the same ``CircuitPolicy``. This one is known
/// to this process alone; of the policy, `key`, `fallback`, `suspendsWorkers`, `isEnabled` and `countOn` have no
/// meaning here. No timer runs: an open circuit becomes half-open at the first call or look at ``state`` after its open
/// time.
public final class CircuitBreaker: Sendable {
    struct Guarded {
        var circuit: Circuit
        var generator: any RandomNumberGenerator & Sendable
        var running = 0
        var calls: Int64 = 0
        var listeners: [Int64: AsyncStream<CircuitTransition>.Continuation] = [:]
    }

    /// What the circuit is called in errors and logs.
    public let name: String
    /// When it opens, for how long, and how it closes again.
    public let policy: CircuitPolicy
    let concurrency: Int?
    let probeLease: Duration
    let judge: @Sendable (any Error) throws -> CallJudgement
    /// The time since the breaker was made.
    private let now: @Sendable () -> Duration
    private let guarded: Mutex<Guarded>

    /// Makes a circuit, closed.
    ///
    /// - Parameters:
    ///   - name: What the circuit is called in errors and logs.
    ///   - policy: When it opens, for how long, and how it closes again. Defaults to the defaults.
    ///   - clock: What it takes the time from. Defaults to the continuous clock.
    ///   - concurrency: How many calls run at once in good times. With it, a circuit that has just closed admits a
    ///     share of them that grows for the policy's `ramp`; without, it admits everything at once. Defaults to nil.
    ///   - probeLease: How long a probe may take before another may take its place. Defaults to 2 minutes.
    ///   - generator: The source of the jitter. Defaults to the system's.
    ///   - judge: What an error means to the circuit; where it throws itself, the call counts as failed. It is not
    ///     asked about cancellations, which are ignored. Defaults to ``CircuitPolicy/judge(_:)``.
    /// - Throws: ``BreakwaterError`` with the code `invalidConfiguration` when the policy cannot work.
    public init<C: Clock>(
        name: String,
        policy: CircuitPolicy = CircuitPolicy(),
        clock: C = ContinuousClock(),
        concurrency: Int? = nil,
        probeLease: Duration = .seconds(120),
        generator: any RandomNumberGenerator & Sendable = SystemRandomNumberGenerator(),
        judge: (@Sendable (any Error) throws -> CallJudgement)? = nil
    ) throws(BreakwaterError) where C.Duration == Duration {
        var faults = policy.faults
        if let concurrency, concurrency < 1 { faults.append("concurrency is \(concurrency); it must be at least 1") }
        if probeLease <= .zero { faults.append("probe_lease is \(probeLease); it must be more than nothing") }
        if !faults.isEmpty { throw BreakwaterError(.invalidConfiguration, faults.joined(separator: "\n")) }
        self.name = name
        self.policy = policy
        self.concurrency = concurrency
        self.probeLease = probeLease
        self.judge = judge ?? { policy.judge($0) }
        let start = clock.now
        now = { start.duration(to: clock.now) }
        guarded = Mutex(Guarded(circuit: Circuit(policy: policy, now: .zero), generator: generator))
    }

    deinit {
        guarded.withLock { guarded in
            for listener in guarded.listeners.values { listener.finish() }
        }
    }

    /// Works on the circuit as it is now, and then tells the listeners what changed.
    func withCircuit<Value>(_ body: (inout sending Guarded, Duration) -> sending Value) -> sending Value {
        guarded.withLock { guarded in
            let now = now()
            guarded.circuit.turn(at: now, using: &guarded.generator)
            let value = body(&guarded, now)
            // Sent under the lock, so that every listener receives the transitions in their order.
            for transition in guarded.circuit.takeTransitions() {
                for listener in guarded.listeners.values { listener.yield(transition) }
            }
            return value
        }
    }

    // MARK: Seeing

    /// What the circuit is like now.
    public var state: CircuitSnapshot { withCircuit { CircuitSnapshot(of: $0.circuit, at: $1) } }

    /// The transitions from now on, for logs and metrics; each use is a stream of its own.
    ///
    /// The stream ends with the breaker. A reader that falls more than 100 transitions behind loses the oldest.
    public var transitions: AsyncStream<CircuitTransition> {
        let (stream, listener) = AsyncStream.makeStream(
            of: CircuitTransition.self,
            bufferingPolicy: .bufferingNewest(100)
        )
        let number = withCircuit { guarded, _ in
            guarded.calls += 1
            guarded.listeners[guarded.calls] = listener
            return guarded.calls
        }
        listener.onTermination = { [weak self] _ in
            _ = self?.guarded.withLock { $0.listeners.removeValue(forKey: number) }
        }
        return stream
    }

    // MARK: Overriding

    /// Overrides the circuit, until a time or until ``reset(reason:actor:)``.
    ///
    /// - Parameters:
    ///   - override: How.
    ///   - reason: Why, for readers of the transitions.
    ///   - duration: For how long, after which it starts over as closed; nil without an end. Defaults to nil.
    ///   - actor: The person or program that asks for it. Defaults to `code`.
    public func force(
        _ override: CircuitOverride,
        reason: String,
        for duration: Duration? = nil,
        actor: String = "code"
    ) {
        withCircuit { guarded, now in
            guarded.circuit.override(
                override,
                reason: reason,
                actor: actor,
                until: duration.map { now + max($0, .zero) },
                at: now,
                using: &guarded.generator
            )
        }
    }

    /// Ends any override, forgets all counts, and starts over as closed.
    ///
    /// - Parameters:
    ///   - reason: Why, for readers of the transitions.
    ///   - actor: The person or program that asks for it. Defaults to `code`.
    public func reset(reason: String, actor: String = "code") {
        withCircuit { guarded, now in
            guarded.circuit.override(nil, reason: reason, actor: actor, at: now, using: &guarded.generator)
        }
    }
}
