import Foundation
package import Libpq

/// `breakwater.claim`: takes ready jobs.
package struct Claim: StoreCall {
    /// Who claims.
    package var worker: Int64
    /// The lanes to look at, in the order of preference.
    package var lanes: [Lane]
    /// For each lane, the position to look behind.
    package var cursors: [Int64]
    /// How many jobs each kind may take, and how many it may have at once.
    package var room: [(kind: String, count: Int, concurrency: Int)]
    /// How many jobs all kinds together may take.
    package var total: Int

    package var statement: Statement {
        let slots = Dictionary(uniqueKeysWithValues: room.enumerated().map { ($1.kind, Int32($0 + 1)) })
        return Statement(
            """
            select id, queue, kind, priority, position, payload, attempt, max_attempts, enqueued_at, traceparent, \
            lease, generation, is_probe, circuit_key, tracestate, waited \
            from breakwater.claim($1, $2, $3, $4, $5, $6, $7, $8, $9)
            """,
            [
                .int8(worker),
                .textArray(lanes.map(\.queue)),
                .textArray(lanes.map(\.kind)),
                .int2Array(lanes.map(\.priority)),
                .int8Array(cursors),
                .int4Array(lanes.map { slots[$0.kind] ?? 0 }),
                .int4Array(room.map { Int32(clamping: $0.count) }),
                .int4Array(room.map { Int32(clamping: $0.concurrency) }),
                .int4(Int32(clamping: total)),
            ]
        )
    }

    package func decode(_ result: QueryResult) throws(PostgresError) -> [ClaimedJob] {
        let now = ContinuousClock.now
        var jobs: [ClaimedJob] = []
        jobs.reserveCapacity(result.count)
        for row in result {
            var job = Job(
                id: try row[0].int64(),
                queue: try row[1].string(),
                kind: try row[2].string(),
                priority: try row[3].int(),
                payload: try row[5].string(),
                attempt: try row[6].int(),
                maxAttempts: row[7].isNull ? 0 : try row[7].int(),
                enqueuedAt: try row[8].date(),
                traceparent: row[9].isNull ? nil : try row[9].string(),
                tracestate: row[14].isNull ? nil : try row[14].string(),
                isProbe: try row[12].bool()
            )
            job.lease = try row[10].int64()
            job.generation = try row[11].int64()
            job.circuitKey = try row[13].string()
            job.readySince = now - .seconds(max(0, try row[15].double()))
            jobs.append(ClaimedJob(job: job, position: try row[4].int64()))
        }
        return jobs
    }
}

/// A job as claimed, with its place in its lane.
package struct ClaimedJob: Sendable {
    package var job: Job
    package var position: Int64

    package var lane: Lane { Lane(queue: job.queue, kind: job.kind, priority: Int16(clamping: job.priority)) }
}

/// An ordered stream of jobs that claims walk along.
package struct Lane: Sendable, Hashable {
    package var queue: String
    package var kind: String
    package var priority: Int16
}
