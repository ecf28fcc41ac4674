import Foundation
import Libpq

/// One row of `breakwater.circuit_status`.
struct CircuitStatus: Equatable {
    var kind: String
    var key: String
    var state: String
    var generation: Int64
    var since: Date
    var reason: String
    var retryAt: Date?
    var reopened: Int
    /// Held `open` or `closed` by hand.
    var override: String?
    var overrideActor: String?
    var overrideUntil: Date?
    var probesOut: Int
    var probesSucceeded: Int
    var calls: Int
    var failed: Int
    var waiting: Int
}

/// One row of `breakwater.circuit_transition`.
struct CircuitTransition: Equatable {
    var at: Date
    var generation: Int64
    var from: String
    var to: String
    var reason: String
    var actor: String?
    var worker: Int64?
}

/// What people do to a circuit by hand.
enum CircuitOverride: Equatable {
    /// Nothing of the kind runs, for so long; nil until somebody closes or resets it.
    case open(for: Duration?)
    /// Everything runs, for so long; nil until somebody opens or resets it.
    case closed(for: Duration?)
    /// The breaker decides again, and starts over as closed.
    case reset
}

extension AdminDatabase {
    /// `breakwater.circuit_status`.
    ///
    /// - Parameter kind: Nil for all.
    func circuits(kind: String? = nil) async throws -> [CircuitStatus] {
        try await connection.query(
            """
            select kind, key, state, generation, since, reason, retry_at, reopened, override, override_actor,
                   override_until, probes_out, probes_succeeded, calls, failed, waiting
              from breakwater.circuit_status where $1::text is null or kind = $1 order by kind, key
            """,
            [.text(kind)]
        ).map { row in
            CircuitStatus(
                kind: try row["kind"].string(),
                key: try row["key"].string(),
                state: try row["state"].string(),
                generation: try row["generation"].int64(),
                since: try row["since"].date(),
                reason: try row["reason"].string(),
                retryAt: try row["retry_at"].dateOrNil(),
                reopened: try row["reopened"].int(),
                override: try row["override"].stringOrNil(),
                overrideActor: try row["override_actor"].stringOrNil(),
                overrideUntil: try row["override_until"].dateOrNil(),
                probesOut: try row["probes_out"].int(),
                probesSucceeded: try row["probes_succeeded"].int(),
                calls: try row["calls"].int(),
                failed: try row["failed"].int(),
                waiting: try row["waiting"].int()
            )
        }
    }

    /// `breakwater.circuit_transition`, the newest first.
    func transitions(ofKind kind: String, limit: Int) async throws -> [CircuitTransition] {
        try await connection.query(
            """
            select at, generation, from_state, to_state, reason, actor, worker
              from breakwater.circuit_transition where kind = $1 and key = '' order by generation desc, id desc limit $2
            """,
            [.text(kind), .int8(Int64(limit))]
        ).map { row in
            CircuitTransition(
                at: try row["at"].date(),
                generation: try row["generation"].int64(),
                from: try row["from_state"].string(),
                to: try row["to_state"].string(),
                reason: try row["reason"].string(),
                actor: try row["actor"].stringOrNil(),
                worker: try row["worker"].int64OrNil()
            )
        }
    }

    /// `breakwater.open_circuit`, `breakwater.close_circuit` and `breakwater.reset_circuit`.
    func override(kind: String, _ override: CircuitOverride, reason: String, actor: String?) async throws {
        let (sql, duration): (String, Duration?) =
            switch override {
            case .open(let duration):
                ("select breakwater.open_circuit($1, $2, now() + $3, coalesce($4, session_user))", duration)
            case .closed(let duration):
                ("select breakwater.close_circuit($1, $2, now() + $3, coalesce($4, session_user))", duration)
            case .reset:
                ("select breakwater.reset_circuit($1, $2, coalesce($4, session_user)) where $3::interval is null", nil)
            }
        _ = try await one(sql, [.text(kind), .text(reason), .interval(duration), .text(actor)])
    }
}
