package import Foundation
import Libpq

/// One job that another job waits for, or that waits for it: a row of `breakwater.job_tree`.
package struct JobRelation: Equatable, Sendable {
    package enum Direction: String, Sendable {
        /// The other job waits for it.
        case dependency
        /// It waits for the other job.
        case dependant
    }

    package var direction: Direction
    /// How many steps it is away.
    package var depth: Int
    package var job: Int64
    /// The job one step nearer.
    package var parent: Int64
    /// Nil if the job is neither live nor a dead letter.
    package var kind: String?
    /// What is known of the one that is waited for: waiting, succeeded, dead or gone.
    package var state: String
}

/// A row of `breakwater.batch_status`: a batch that waits, or ended within the last day.
package struct BatchStatus: Equatable, Sendable {
    /// The id of its callback.
    package var id: Int64
    /// The kind of its callback; nil if that has ended.
    package var kind: String?
    /// waiting or ended.
    package var state: String
    package var isOpen: Bool
    package var jobs: Int
    package var waiting: Int
    package var succeeded: Int
    package var dead: Int
    package var endedAt: Date?
}

extension AdminDatabase {
    /// The most relations of each direction that ``relations(ofJob:)`` returns.
    package static let mostRelations = 100

    /// The jobs that a job waits for, and those that wait for it, each after its parent.
    package func relations(ofJob id: Int64) async throws -> [JobRelation] {
        try await read("select * from breakwater.job_tree($1, $2)", [.int8(id), .int4(Int32(Self.mostRelations))])
            .map { row in
                JobRelation(
                    direction: JobRelation.Direction(rawValue: try row["direction"].string()) ?? .dependency,
                    depth: try row["depth"].int(),
                    job: try row["job"].int64(),
                    parent: try row["parent"].int64(),
                    kind: try row["kind"].stringOrNil(),
                    state: try row["state"].string()
                )
            }
    }

    /// The batches that wait or ended within the last day, the newest first.
    ///
    /// - Parameters:
    ///   - id: Only the batch with this callback; nil for all.
    ///   - limit: The most batches.
    package func batches(id: Int64? = nil, limit: Int = 100) async throws -> [BatchStatus] {
        try await read(
            "select * from breakwater.batch_status b where $1::bigint is null or b.id = $1 order by b.id desc limit $2",
            [.int8(id), .int8(Int64(limit))]
        ).map { row in
            BatchStatus(
                id: try row["id"].int64(),
                kind: try row["kind"].stringOrNil(),
                state: try row["state"].string(),
                isOpen: try row["is_open"].bool(),
                jobs: try row["jobs"].int(),
                waiting: try row["waiting"].int(),
                succeeded: try row["succeeded"].int(),
                dead: try row["dead"].int(),
                endedAt: try row["released_at"].dateOrNil()
            )
        }
    }

    /// `breakwater.batch`: enqueues the callback of a batch and returns its id.
    ///
    /// - Parameters:
    ///   - callback: The callback. It has no time and no unique key.
    ///   - isOpen: Whether the batch goes on until it is closed.
    ///   - withResults: Whether the callback gets the results of the batch's jobs.
    package func createBatch(_ callback: NewJob, isOpen: Bool, withResults: Bool) async throws -> Int64 {
        try await one(
            """
            select breakwater.batch($1, $2, queue => $3, priority => $4, max_attempts => $5, traceparent => $6,
                                    tracestate => $7, on_dead => $8, with_results => $9, open => $10, batch => $11)
            """,
            [
                .text(callback.kind), .jsonb(callback.payload), .text(callback.queue),
                .int4(Int32(clamping: callback.priority)), .int4(callback.maxAttempts.map { Int32(clamping: $0) }),
                .text(callback.traceparent), .text(callback.tracestate), .text(callback.onDead ?? "run"),
                .bool(withResults), .bool(isOpen), .int8(callback.batch),
            ]
        )[0].int64()
    }

    /// `breakwater.close_batch`: lets an open batch end with its jobs. Returns false if there is no open batch of this
    /// id.
    package func closeBatch(id: Int64) async throws -> Bool {
        try await one("select breakwater.close_batch($1)", [.int8(id)])[0].bool()
    }
}
