package import Foundation
package import Libpq

/// The identity of a circuit: its kind and key, as in SQL.
package struct CircuitID: Hashable, Sendable {
    /// The kind of job; `*` for a circuit that several kinds share.
    package var kind: String
    /// Empty for the kind's own circuit, or else a value from payloads or the shared circuit's name.
    package var key: String

    package init(kind: String, key: String) {
        self.kind = kind
        self.key = key
    }
}

/// One row of `breakwater.circuit_status`, and the workers that are suspended from it.
package struct CircuitStatus: Equatable, Sendable {
    package var id: CircuitID
    /// The name for people: the kind, the kind and its key, or the shared circuit's name.
    package var name: String
    /// The kinds that share the circuit; empty for a kind's own circuit.
    package var sharedBy: [String]
    package var state: String
    package var generation: Int64
    package var since: Date
    /// How long the circuit has been in this state, by the database's clock.
    package var age: Duration
    package var reason: String
    package var retryAt: Date?
    /// The time until the next probe, by the database's clock; negative when it is due.
    package var nextProbeIn: Duration?
    package var reopened: Int
    package var rampUntil: Date?
    /// The override: `open`, `closed`, `disabled` or `metrics_only`.
    package var override: String?
    package var overrideActor: String?
    package var overrideUntil: Date?
    package var probesOut: Int
    package var probesSucceeded: Int
    /// The calls in the circuit's window now.
    package var calls: Int
    package var failed: Int
    package var slow: Int
    package var failuresInARow: Int
    /// The rules. Their values are nil if no worker has registered a handler.
    package var policy: Policy
    package var waiting: Int
    package var suspensions: [Suspension] = []

    /// The thresholds for the window. A threshold that is off is nil.
    package struct Policy: Equatable {
        package var failureRate: Double?
        package var slowRate: Double?
        package var minimumCalls: Int?
        package var consecutiveFailures: Int?
        package var probes: Int?
        package var successesToClose: Int?
        package var fallback: String?
    }

    /// The share of failed calls now; nil without calls.
    package var failureRate: Double? { calls > 0 ? Double(failed) / Double(calls) : nil }
    /// The share of slow calls now; nil without calls.
    package var slowRate: Double? { calls > 0 ? Double(slow) / Double(calls) : nil }
}

/// One row of `breakwater.suspension_status`: a worker that gets no jobs of a circuit because its calls failed while
/// those of others succeeded. A worker that suspended itself for a kind has a row with the kind's own circuit.
package struct Suspension: Equatable, Sendable {
    package var circuit: CircuitID
    package var circuitName: String
    package var worker: Int64
    /// The worker's name; nil if it is no longer registered.
    package var workerName: String?
    package var since: Date
    package var until: Date
    /// The time until the worker gets one job as a trial, by the database's clock; negative when that is due.
    package var endsIn: Duration
    package var times: Int
    package var reason: String
}

/// One row of `breakwater.circuit_transition`.
package struct RecordedTransition: Equatable, Sendable {
    package var circuit: CircuitID
    package var circuitName: String
    package var at: Date
    package var generation: Int64
    package var from: String
    package var to: String
    package var reason: String
    /// Who requested the transition; nil when the breaker decided.
    package var actor: String?
    /// The worker whose call caused the transition; nil if a timeout or a user caused it.
    package var worker: Int64?
    /// The worker's name; nil also if it is no longer registered.
    package var workerName: String?
    /// A summary of the evidence: `http.500 (9), http.timeout (1)`. Nil if a user or a timeout caused the transition.
    package var evidence: String?

    /// The reason with its evidence: `10 failures in a row: http.500 (9), http.timeout (1)`.
    package var reasonWithEvidence: String { evidence.map { "\(reason): \($0)" } ?? reason }
}

/// A manual change to a circuit.
package enum ManualCircuitChange: Equatable, Sendable {
    /// No job of the circuit runs.
    case open
    /// All jobs run, however many calls fail.
    case close
    /// All jobs run, and no calls are counted.
    case disable
    /// All jobs run, and the history records when the circuit would have opened.
    case observe
    /// The override ends. The breaker starts again as closed.
    case reset
}

extension CircuitStatus {
    package init(_ row: Row) throws {
        self.init(
            id: CircuitID(kind: try row["kind"].string(), key: try row["key"].string()),
            name: try row["name"].string(),
            sharedBy: try row["shared_by"].stringArray(),
            state: try row["state"].string(),
            generation: try row["generation"].int64(),
            since: try row["since"].date(),
            age: try row["age"].seconds(),
            reason: try row["reason"].string(),
            retryAt: try row["retry_at"].dateOrNil(),
            nextProbeIn: try row["next_probe_in"].doubleOrNil().map { .seconds($0) },
            reopened: try row["reopened"].int(),
            rampUntil: try row["ramp_until"].dateOrNil(),
            override: try row["override"].stringOrNil(),
            overrideActor: try row["override_actor"].stringOrNil(),
            overrideUntil: try row["override_until"].dateOrNil(),
            probesOut: try row["probes_out"].int(),
            probesSucceeded: try row["probes_succeeded"].int(),
            calls: try row["calls"].int(),
            failed: try row["failed"].int(),
            slow: try row["slow"].int(),
            failuresInARow: try row["failures_in_a_row"].int(),
            policy: Policy(
                failureRate: try row["failure_threshold"].doubleOrNil(),
                slowRate: try row["slow_threshold"].doubleOrNil(),
                minimumCalls: try row["minimum_calls"].intOrNil(),
                consecutiveFailures: try row["consecutive_failures"].intOrNil(),
                probes: try row["probes"].intOrNil(),
                successesToClose: try row["successes_to_close"].intOrNil(),
                fallback: try row["fallback"].stringOrNil()
            ),
            waiting: try row["waiting"].int()
        )
    }
}

extension Suspension {
    package init(_ row: Row) throws {
        self.init(
            circuit: CircuitID(kind: try row["kind"].string(), key: try row["key"].string()),
            circuitName: try row["circuit"].string(),
            worker: try row["worker"].int64(),
            workerName: try row["worker_name"].stringOrNil(),
            since: try row["since"].date(),
            until: try row["until"].date(),
            endsIn: try row["ends_in"].seconds(),
            times: try row["times"].int(),
            reason: try row["reason"].string()
        )
    }
}

extension RecordedTransition {
    package init(_ row: Row) throws {
        self.init(
            circuit: CircuitID(kind: try row["kind"].string(), key: try row["key"].string()),
            circuitName: try row["circuit"].string(),
            at: try row["at"].date(),
            generation: try row["generation"].int64(),
            from: try row["from_state"].string(),
            to: try row["to_state"].string(),
            reason: try row["reason"].string(),
            actor: try row["actor"].stringOrNil(),
            worker: try row["worker"].int64OrNil(),
            workerName: try row["worker_name"].stringOrNil(),
            evidence: try row["evidence"].stringOrNil()
        )
    }
}
