package import Foundation
import Libpq

/// One row of `breakwater.depth`: the number and the age of the jobs of a queue and a kind.
package struct Depth: Equatable, Sendable {
    package var queue: String
    package var kind: String
    package var ready: Int
    package var running: Int
    package var scheduled: Int
    package var retrying: Int
    /// Jobs that are parked because the circuit of their key is open.
    package var parked: Int
    /// Jobs that wait for others.
    package var dependent = 0
    /// How long the oldest ready job has waited.
    package var oldestReady: Duration?
    package var nextDue: Date?
    package var isPaused: Bool
    package var circuit: String
    /// How many living workers claim these jobs.
    package var workers: Int
}

/// One row of `breakwater.worker_status`.
package struct WorkerStatus: Equatable, Sendable {
    package var id: Int64
    package var name: String
    package var version: String
    package var state: String
    package var queues: [String]
    package var kinds: [String]
    package var concurrency: Int
    package var running: Int
    package var startedAt: Date
    package var silentFor: Duration
    package var isAlive: Bool
    package var leads: Bool
    /// The reason for which a user drained the worker; nil if no user did.
    package var drainReason: String?
    /// The number of runs that were cancelled and have not ended.
    package var unresponsive = 0
}

extension AdminDatabase {
    /// `breakwater.depth`, the deepest first.
    package func depths() async throws -> [Depth] {
        try await read(
            """
            select queue, kind, ready, running, scheduled, retrying, parked, dependent,
                   extract(epoch from oldest_ready)::float8 as oldest,
                   next_due, paused, circuit, workers
              from breakwater.depth order by ready + running + scheduled + retrying + parked + dependent desc, queue, kind
            """,
            // The view counts every job, which takes a while when there are many millions.
            timeout: .seconds(300)
        ).map { row in
            Depth(
                queue: try row["queue"].string(),
                kind: try row["kind"].string(),
                ready: try row["ready"].int(),
                running: try row["running"].int(),
                scheduled: try row["scheduled"].int(),
                retrying: try row["retrying"].int(),
                parked: try row["parked"].int(),
                dependent: try row["dependent"].int(),
                oldestReady: try row["oldest"].doubleOrNil().map { .seconds($0) },
                nextDue: try row["next_due"].dateOrNil(),
                isPaused: try row["paused"].bool(),
                circuit: try row["circuit"].string(),
                workers: try row["workers"].int()
            )
        }
    }

    /// `breakwater.drain_worker`: makes a worker stop claiming. Returns false when there is no such worker.
    package func drain(worker: Int64, reason: String, actor: String?) async throws -> Bool {
        try await one(
            "select breakwater.drain_worker($1, $2, coalesce($3, session_user))",
            [.int8(worker), .text(reason), .text(actor)]
        )[0].bool()
    }

    /// `breakwater.undrain_worker`: lets a worker claim again. Returns false if no user had drained it.
    package func undrain(worker: Int64, reason: String?, actor: String?) async throws -> Bool {
        try await one(
            "select breakwater.undrain_worker($1, $2, coalesce($3, session_user))",
            [.int8(worker), .text(reason), .text(actor)]
        )[0].bool()
    }

    /// `breakwater.worker_status`, in the order in which the workers started.
    package func workers() async throws -> [WorkerStatus] {
        try await read(
            """
            select id, name, version, state, queues, kinds, concurrency, running, started_at,
                   extract(epoch from silent_for)::float8 as silent_for, alive, leads,
                   drain_reason, unresponsive
              from breakwater.worker_status order by id
            """
        ).map { row in
            WorkerStatus(
                id: try row["id"].int64(),
                name: try row["name"].string(),
                version: try row["version"].string(),
                state: try row["state"].string(),
                queues: try row["queues"].stringArray(),
                kinds: try row["kinds"].stringArray(),
                concurrency: try row["concurrency"].int(),
                running: try row["running"].int(),
                startedAt: try row["started_at"].date(),
                silentFor: try row["silent_for"].seconds(),
                isAlive: try row["alive"].bool(),
                leads: try row["leads"].bool(),
                drainReason: try row["drain_reason"].stringOrNil(),
                unresponsive: try row["unresponsive"].int()
            )
        }
    }
}
