public import Foundation

extension BreakwaterClient {
    /// A circuit, as `breakwater.circuit_status` shows it.
    public struct Circuit: Sendable, Equatable, Decodable {
        /// The kind of its jobs; `*` for a circuit that several kinds share.
        public var kind: String
        /// Empty for the kind's own circuit; otherwise a value from payloads, or the shared circuit's name.
        public var key: String
        /// The name for people.
        public var name: String
        /// Its state.
        public var state: CircuitPhase
        /// Since when it is in this state.
        public var since: Date
        /// Why it is in this state.
        public var reason: String
        /// When the next probe is due, if it is open.
        public var retryAt: Date?
        /// What users have set instead of the breaker's own decision, if they have.
        public var override: CircuitOverride?
        /// Until when that holds; nil until it is reset.
        public var overrideUntil: Date?
        /// The calls in its window.
        public var calls: Int
        /// Those of them that failed.
        public var failed: Int
        /// Those of them that were slow.
        public var slow: Int
        /// How many jobs wait for it.
        public var waiting: Int
    }

    /// What is paused: a queue or a kind.
    public enum PauseScope: Sendable, Hashable {
        /// All jobs of a queue.
        case queue(String)
        /// All jobs of a kind.
        case kind(String)

        fileprivate var function: String {
            switch self {
            case .queue: "queue"
            case .kind: "kind"
            }
        }

        fileprivate var name: String {
            switch self {
            case .queue(let name), .kind(let name): name
            }
        }
    }
}

extension JobDatabase {
    /// The circuits.
    ///
    /// - Parameter kind: Only those of this kind. Defaults to all.
    /// - Throws: What the database throws.
    public func circuits(kind: String? = nil) async throws -> [BreakwaterClient.Circuit] {
        try await rows(
            """
            kind, key, name, state, extract(epoch from since) as since, reason, \
            extract(epoch from nullif(retry_at, 'infinity')) as retry_at, override, \
            extract(epoch from nullif(override_until, 'infinity')) as override_until, calls, failed, slow, waiting
            """,
            from: "breakwater.circuit_status where $1::text is null or kind = $1::text order by name",
            [kind]
        )
    }

    /// Holds a circuit open: no job of it runs until it is reset or closed, or until a time.
    ///
    /// - Parameters:
    ///   - kind: The circuit's kind.
    ///   - key: The circuit's key. Defaults to the kind's own circuit.
    ///   - reason: Why, for the circuit's history.
    ///   - until: When this ends by itself. Defaults to never.
    /// - Throws: What the database throws; SQLSTATE P0002 if there is no such circuit.
    public func openCircuit(_ kind: String, key: String = "", reason: String, until: Date? = nil) async throws {
        try await override("open_circuit", kind, key, reason, until)
    }

    /// Holds a circuit closed: its jobs run, however they end, until it is reset or opened, or until a time.
    ///
    /// - Parameters:
    ///   - kind: The circuit's kind.
    ///   - key: The circuit's key. Defaults to the kind's own circuit.
    ///   - reason: Why, for the circuit's history.
    ///   - until: When this ends by itself. Defaults to never.
    /// - Throws: What the database throws; SQLSTATE P0002 if there is no such circuit.
    public func closeCircuit(_ kind: String, key: String = "", reason: String, until: Date? = nil) async throws {
        try await override("close_circuit", kind, key, reason, until)
    }

    /// Ends what users have set for a circuit. The breaker starts again as closed.
    ///
    /// - Parameters:
    ///   - kind: The circuit's kind.
    ///   - key: The circuit's key. Defaults to the kind's own circuit.
    ///   - reason: Why, for the circuit's history.
    /// - Throws: What the database throws; SQLSTATE P0002 if there is no such circuit.
    public func resetCircuit(_ kind: String, key: String = "", reason: String) async throws {
        try await call("breakwater.reset_circuit($1::text, $2::text, key => $3::text)", [kind, reason, key])
    }

    /// Ends the open time of a circuit now, so that its next jobs are probes.
    ///
    /// - Parameters:
    ///   - kind: The circuit's kind.
    ///   - key: The circuit's key. Defaults to the kind's own circuit.
    ///   - reason: Why, for the circuit's history.
    /// - Throws: What the database throws; SQLSTATE P0002 if there is no such circuit.
    public func probeCircuit(_ kind: String, key: String = "", reason: String) async throws {
        try await call("breakwater.probe_circuit($1::text, $2::text, key => $3::text)", [kind, reason, key])
    }

    private func override(
        _ function: String,
        _ kind: String,
        _ key: String,
        _ reason: String,
        _ until: Date?
    ) async throws {
        try await call(
            "breakwater.\(function)($1::text, $2::text, to_timestamp($3::text::float8), key => $4::text)",
            [kind, reason, TextStatement.seconds(until), key]
        )
    }

    // MARK: Pauses

    /// Pauses a queue or a kind for the whole fleet. Running jobs go on.
    ///
    /// - Parameters:
    ///   - scope: The queue or the kind.
    ///   - reason: Why; `breakwater.job_status` shows it for the jobs that wait.
    /// - Throws: What the database throws.
    public func pause(_ scope: BreakwaterClient.PauseScope, reason: String) async throws {
        try await call("breakwater.pause_\(scope.function)($1::text, $2::text)", [scope.name, reason])
    }

    /// Resumes a queue or a kind.
    ///
    /// - Parameters:
    ///   - scope: The queue or the kind.
    ///   - reason: Why, for the audit log. Defaults to none.
    /// - Returns: False if it was not paused.
    /// - Throws: What the database throws.
    @discardableResult
    public func resume(_ scope: BreakwaterClient.PauseScope, reason: String? = nil) async throws -> Bool {
        try await isTrue("breakwater.resume_\(scope.function)($1::text, $2::text)", [scope.name, reason])
    }
}
