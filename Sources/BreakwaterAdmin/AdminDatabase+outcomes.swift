package import Foundation
import Libpq

/// One outcome as `worker tail` shows it.
package struct Outcome: Equatable, Sendable {
    package var at: Date
    /// `succeeded`, `failed`, `unavailable`, `throttled`, `unable`, `snoozed`, `released`, `rescued` or `dead_letter`.
    package var outcome: String
    package var queue: String
    package var kind: String
    /// The job's id; nil for a number of jobs that are not listed one by one.
    package var job: Int64?
    package var jobs: Int
    package var attempt: Int?
    package var maxAttempts: Int?
    package var worker: String?
    /// The time from the claim to settling.
    package var took: Duration?
    /// The reason of the dead letter.
    package var reason: String?
    package var name: String?
    package var message: String?
    /// When the job runs again; nil for as soon as a worker is free.
    package var runAt: Date?
}

/// The outcomes that became visible since the previous query.
package struct OutcomePortion: Sendable {
    package var outcomes: [Outcome]
    /// How many outcomes exceeded the limit of one query.
    package var leftOut: Int
    /// The snapshot to pass to the next query.
    package var snapshot: String
}

extension AdminDatabase {
    /// `breakwater.subscribe`: begins a subscription, or renews it for another 15 seconds.
    ///
    /// - Parameter id: The result of the previous call; nil for the first one.
    package func subscribe(_ id: Int64?) async throws -> Int64 {
        try await one("select breakwater.subscribe($1)", [.int8(id)])[0].int64()
    }

    /// `breakwater.unsubscribe`.
    package func unsubscribe(_ id: Int64) async throws {
        _ = try await one("select breakwater.unsubscribe($1)", [.int8(id)])
    }

    /// The current snapshot of the database, from which outcomes can be followed.
    package func snapshot() async throws -> String {
        try await one("select pg_current_snapshot()::text")[0].string()
    }

    /// The outcomes that were not visible in an earlier snapshot.
    ///
    /// - Parameters:
    ///   - snapshot: The snapshot of the previous query.
    ///   - kinds: Only outcomes of these kinds are returned; empty for all.
    ///   - queues: Only outcomes of these queues are returned; empty for all.
    ///   - names: Only these outcomes are returned; empty for all.
    ///   - limit: The most outcomes to return. Further ones are only counted.
    package func outcomes(
        since snapshot: String,
        kinds: [String],
        queues: [String],
        names: [String],
        limit: Int
    ) async throws -> OutcomePortion {
        let rows = try await connection.query(
            """
            select s.snapshot, o.*, w.name as worker_name, extract(epoch from o.took)::float8 as seconds
              from (select pg_current_snapshot()::text as snapshot) s
              left join (select n.*, count(*) over () as found from breakwater.outcome n
                          where n.xid >= pg_snapshot_xmin($1::text::pg_snapshot)
                            and not pg_visible_in_snapshot(n.xid, $1::text::pg_snapshot)
                            and ($2::text[] = '{}' or n.kind = any ($2)) and ($3::text[] = '{}' or n.queue = any ($3))
                            and ($4::text[] = '{}' or n.outcome = any ($4))
                          order by n.id limit $5) o on true
              left join breakwater.worker w on w.id = o.worker
             order by o.id
            """,
            [.text(snapshot), .textArray(kinds), .textArray(queues), .textArray(names), .int8(Int64(limit))]
        )
        guard let first = rows.first else {
            throw PostgresError(.decoding, "the database answered without a snapshot")
        }
        let outcomes = try rows.filter { !$0["id"].isNull }.map { row in
            Outcome(
                at: try row["at"].date(),
                outcome: try row["outcome"].string(),
                queue: try row["queue"].string(),
                kind: try row["kind"].string(),
                job: try row["job"].int64OrNil(),
                jobs: try row["jobs"].int(),
                attempt: try row["attempt"].intOrNil(),
                maxAttempts: try row["max_attempts"].intOrNil(),
                worker: try row["worker_name"].stringOrNil() ?? row["worker"].int64OrNil().map { "worker \($0)" },
                took: try row["seconds"].doubleOrNil().map { .seconds($0) },
                reason: try row["reason"].stringOrNil(),
                name: try row["name"].stringOrNil(),
                message: try row["message"].stringOrNil(),
                runAt: try row["run_at"].dateOrNil()
            )
        }
        return OutcomePortion(
            outcomes: outcomes,
            leftOut: (try first["found"].intOrNil() ?? 0) - outcomes.count,
            snapshot: try first["snapshot"].string()
        )
    }

    /// The transitions with ids above `id`, the oldest first.
    package func transitions(after id: Int64) async throws -> [(id: Int64, transition: RecordedTransition)] {
        try await connection.query(
            """
            select t.id, t.kind, t.key, breakwater.circuit_name(t.kind, t.key) as circuit, t.at, t.generation,
                   t.from_state, t.to_state, t.reason, t.actor, t.worker, w.name as worker_name,
                   coalesce(breakwater.failures_in_words(t.evidence), breakwater.probes_in_words(t.evidence)) as evidence
              from breakwater.circuit_transition t left join breakwater.worker w on w.id = t.worker
             where t.id > $1 order by t.id limit 1000
            """,
            [.int8(id)]
        ).map { (try $0["id"].int64(), try RecordedTransition($0)) }
    }

    /// The id of the newest transition; 0 for none.
    package func newestTransition() async throws -> Int64 {
        try await one("select coalesce(max(id), 0) from breakwater.circuit_transition")[0].int64()
    }
}
