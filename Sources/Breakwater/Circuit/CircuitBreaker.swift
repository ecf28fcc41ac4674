import Synchronization

/// A circuit breaker around an application's own calls to the dependencies of a handler, such as a cache or another
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
/// While the circuit is open, `call` throws ``CircuitOpenError`` at once. A handler that does not catch it spends no
/// attempt of its job.
///
/// The rules are those of the fleet's circuits, which open and close by the same ``CircuitPolicy``. This circuit exists
/// only in this process, so `key`, `fallback`, `suspendsWorkers`, `isEnabled` and `countOn` of the policy have no
/// effect. There is no timer: an open circuit becomes half-open at the first call after its open time.
public final class CircuitBreaker: Sendable {
    struct Guarded {
        var circuit: Circuit
        var generator: any RandomNumberGenerator & Sendable
        var running = 0
        var calls: Int64 = 0
        var listeners: [Int64: AsyncStream<CircuitTransition>.Continuation] = [:]
    }

    /// The circuit's name in errors and logs.
    public let name: String
    /// The rules by which the circuit opens and closes.
    public let policy: CircuitPolicy
    let concurrency: Int?
    let probeLease: Duration
    let judge: @Sendable (any Error) throws -> CallJudgement
    /// The time since the breaker was made.
    private let now: @Sendable () -> Duration
    private let guarded: Mutex<Guarded>

    /// Makes a circuit breaker, which is closed at first.
    ///
    /// - Parameters:
    ///   - name: The circuit's name in errors and logs.
    ///   - policy: The rules by which the circuit opens and closes. Defaults to the default policy.
    ///   - clock: The clock. Defaults to the continuous clock.
    ///   - concurrency: How many calls usually run at once. If it is set, a circuit that has just closed admits a share
    ///     of them that grows during the policy's `ramp`. Without it, the circuit admits all calls at once. Defaults to
    ///     nil.
    ///   - probeLease: How long a probe may take before another may take its place. Defaults to 2 minutes.
    ///   - generator: The source of the jitter. Defaults to the system's.
    ///   - judge: Decides how the circuit counts an error. If it throws itself, the call counts as failed. It is not
    ///     called for cancellations, which are ignored. Defaults to ``CircuitPolicy/judge(_:)``.
    /// - Throws: ``BreakwaterError`` with the code `invalidConfiguration` when the policy is invalid.
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

    /// Calls `body` with the circuit in its current state, and then sends the transitions to the listeners.
    func withCircuit<Value>(_ body: (inout sending Guarded, Duration) -> sending Value) -> sending Value {
        guarded.withLock { guarded in
            let now = now()
            guarded.circuit.applyDueTransition(at: now, using: &guarded.generator)
            let value = body(&guarded, now)
            // The transitions are sent under the lock, so that every listener receives them in order.
            for transition in guarded.circuit.drainTransitions() {
                for listener in guarded.listeners.values { listener.yield(transition) }
            }
            return value
        }
    }

    // MARK: Observing

    /// The state in which a call would find the circuit now. Reading it changes nothing.
    public var state: CircuitSnapshot {
        guarded.withLock { guarded in
            let now = now()
            var circuit = guarded.circuit
            var generator = SystemRandomNumberGenerator()
            circuit.applyDueTransition(at: now, using: &generator)
            return CircuitSnapshot(of: circuit, at: now)
        }
    }

    /// The transitions from now on, for logs and metrics. Each access makes a new stream.
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
    ///   - override: The override.
    ///   - reason: The reason, for readers of the transitions.
    ///   - duration: How long the override lasts. The circuit then starts again as closed. Nil for no end. Defaults to
    ///     nil.
    ///   - actor: The person or program that requests the change. Defaults to `code`.
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

    /// Ends any override, resets all counts, and starts again as closed.
    ///
    /// - Parameters:
    ///   - reason: The reason, for readers of the transitions.
    ///   - actor: The person or program that requests the change. Defaults to `code`.
    public func reset(reason: String, actor: String = "code") {
        withCircuit { guarded, now in
            guarded.circuit.override(nil, reason: reason, actor: actor, at: now, using: &guarded.generator)
        }
    }
}
