import Foundation
package import Libpq

/// `breakwater.claim`: takes ready jobs.
package struct Claim: StoreCall {
    /// Who claims.
    package var worker: Int64
    /// The lanes to look at, in the order of preference.
    package var lanes: [Lane]
    /// How many jobs each kind may take, and how many it may have at once.
    package var room: [(kind: String, count: Int, concurrency: Int)]
    /// How many jobs all kinds together may take.
    package var total: Int
    /// Whether to look for jobs that appeared behind the lanes' cursors too.
    package var isLate = false
    /// Whether these are all the lanes there are.
    package var isWide = false

    package var statement: Statement {
        let slots = Dictionary(uniqueKeysWithValues: room.enumerated().map { ($1.kind, Int32($0 + 1)) })
        return Statement(
            """
            select id, queue, kind, priority, position, payload, attempt, max_attempts, enqueued_at, traceparent, \
            lease, generation, is_probe, circuit_key, tuple, tracestate, waited \
            from breakwater.claim($1, $2, $3, $4, $5, $6, $7, $8, $9)
            """,
            [
                .int8(worker),
                .textArray(lanes.map(\.queue)),
                .textArray(lanes.map(\.kind)),
                .int2Array(lanes.map(\.priority)),
                .int4Array(lanes.map { slots[$0.kind] ?? 0 }),
                .int4Array(room.map { Int32(clamping: $0.count) }),
                .int4Array(room.map { Int32(clamping: $0.concurrency) }),
                .int4(Int32(clamping: total)),
                .bool(isLate),
            ]
        )
    }

    /// The place of the payload among the columns.
    package static let payloadColumn = 5

    /// The jobs. Their payloads are left in the answer, for their runs to read: the server waits for whoever decodes this.
    package func decode(_ result: QueryResult) throws(PostgresError) -> [ClaimedJob] {
        try ClaimedJob.all(of: result)
    }

    /// How many jobs a claim took, told in a small part of the time that ``decode(_:)`` takes.
    package func count(_ result: QueryResult) -> Int {
        (0..<result.count).count { !result.isNull($0, 0) }
    }
}

/// `breakwater.flush`: makes durable what this worker has claimed, where there is nothing to settle that would.
package struct Flush: StoreCall {
    package var worker: Int64

    package var statement: Statement { Statement("select breakwater.flush($1)", [.int8(worker)]) }

    package func decode(_ result: QueryResult) {}
}

/// `breakwater.claim_suspect`: takes one job that must run alone, for a worker that holds nothing else.
package struct ClaimSuspect: StoreCall {
    /// Who claims.
    package var worker: Int64

    package var statement: Statement {
        Statement(
            """
            select id, queue, kind, priority, position, payload, attempt, max_attempts, enqueued_at, traceparent, \
            lease, generation, is_probe, circuit_key, tuple, tracestate, waited \
            from breakwater.claim_suspect($1)
            """,
            [.int8(worker)]
        )
    }

    package func decode(_ result: QueryResult) throws(PostgresError) -> [ClaimedJob] {
        try ClaimedJob.all(of: result)
    }
}

/// A job as claimed, with its place in its lane.
package struct ClaimedJob: Sendable {
    package var job: Job
    package var position: Int64

    package var lane: Lane { Lane(queue: job.queue, kind: job.kind, priority: Int16(clamping: job.priority)) }

    /// Whether it starts before another of its kind.
    func startsBefore(_ other: ClaimedJob) -> Bool {
        (job.priority, position) < (other.job.priority, other.position)
    }

    /// Whether this is its lane.
    func isIn(_ lane: Lane) -> Bool {
        job.priority == Int(lane.priority) && job.kind == lane.kind && job.queue == lane.queue
    }

    /// The rows that both ways of claiming answer with.
    fileprivate static func all(of result: QueryResult) throws(PostgresError) -> [ClaimedJob] {
        let now = MonotonicClock.Instant.now
        var jobs: [ClaimedJob] = []
        jobs.reserveCapacity(result.count)
        // What the jobs have in common that come behind a row without an id.
        var common = Job(kind: "", enqueuedAt: .distantPast)
        common.claimedAt = now
        for row in 0..<result.count {
            if result.isNull(row, 0) {
                common.queue = try result[row][1].string()
                common.kind = try result[row][2].string()
                common.priority = try result[row][3].int()
                common.lease = try result.int64(row, 10)
                common.generation = try result.int64(row, 11)
                common.isProbe = try result.bool(row, 12)
                common.circuitKey = try result[row][13].string()
                continue
            }
            if jobs.isEmpty { _ = try result[row][Claim.payloadColumn].string() }
            var job = common
            job.id = try result.int64(row, 0)
            job.payloadSource = .answer(result, row: row)
            job.attempt = Int(try result.int64(row, 6))
            job.maxAttempts = result.isNull(row, 7) ? 0 : Int(try result.int64(row, 7))
            job.enqueuedAt = try result.date(row, 8)
            job.tuple = try result.tupleID(row, 14)
            job.waited = try result.double(row, 16)
            if !result.isNull(row, 11) { job.generation = try result.int64(row, 11) }
            // A row that says its kind says everything.
            let isComplete = !result.isNull(row, 2)
            if isComplete {
                job.priority = try result[row][3].int()
                job.lease = try result.int64(row, 10)
                job.isProbe = try result.bool(row, 12)
            }
            if isComplete || !result.isNull(row, 9) || !result.isNull(row, 13) || !result.isNull(row, 15) {
                var texts = common.origin.texts
                if isComplete {
                    texts.queue = try result.string(row, 1)
                    texts.kind = try result.string(row, 2)
                }
                if !result.isNull(row, 9) { texts.traceparent = try result.string(row, 9) }
                if !result.isNull(row, 13) { texts.circuitKey = try result.string(row, 13) }
                if !result.isNull(row, 15) { texts.tracestate = try result.string(row, 15) }
                job.origin = Job.Origin(texts)
            }
            jobs.append(ClaimedJob(job: job, position: try result.int64(row, 4)))
        }
        return jobs
    }
}

/// An ordered stream of jobs that claims walk along.
package struct Lane: Sendable, Hashable {
    package var queue: String
    package var kind: String
    package var priority: Int16
}
