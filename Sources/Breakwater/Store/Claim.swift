import Foundation
package import Libpq

/// `breakwater.claim`: claims ready jobs.
package struct Claim: StoreCall {
    /// The worker that claims.
    package var worker: Int64
    /// The lanes to claim from, in the order of preference.
    package var lanes: [Lane]
    /// The most jobs to claim of each kind, and its concurrency.
    package var room: [(kind: String, count: Int, concurrency: Int)]
    /// The most jobs to claim in total.
    package var total: Int
    /// Whether to search for late jobs behind the lanes' cursors too.
    package var isLate = false
    /// Whether the last claim returned as many jobs as it asked for. Late jobs are then searched for only where some
    /// may have appeared.
    package var isBacklog = false
    /// Whether ``lanes`` contains all lanes.
    package var isWide = false
    /// The byte limit: the claim ends with the job whose payload reaches it.
    package var bytes = HeldJobs.mostBytesAClaim

    /// Whether the claim may have ended because of its byte limit. The server counts a few more bytes for each job.
    func isFull(with bytes: Int) -> Bool { bytes >= self.bytes - self.bytes / 16 }

    package var statement: Statement {
        let slots = Dictionary(uniqueKeysWithValues: room.enumerated().map { ($1.kind, Int32($0 + 1)) })
        return Statement(
            """
            select c.*, case when c.ids is not null then breakwater.checkpoints(c.kind, c.ids) end as checkpoints \
            from breakwater.claim($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) c
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
                .bool(isBacklog),
                .int4(Int32(clamping: bytes)),
            ]
        )
    }

    /// Decodes the jobs. The next request waits meanwhile, so payloads stay in the answer until their runs read them.
    package func decode(_ result: QueryResult) throws(PostgresError) -> [ClaimedJob] {
        try ClaimedJob.all(of: result)
    }

    /// The kinds whose jobs are held back by rules, each with the time after which to claim it again.
    package func heldBack(_ result: QueryResult) throws(PostgresError) -> [String: Duration] {
        var kinds: [String: Duration] = [:]
        for row in result where !row["retry_after"].isNull {
            let (kind, wait) = (try row["kind"].string(), Duration.seconds(try row["retry_after"].double()))
            kinds[kind] = min(kinds[kind] ?? wait, wait)
        }
        return kinds
    }
}

/// `breakwater.dead_letter_unreadable`: dead-letters jobs that no claim can read, after a claim was refused. Returns
/// their ids.
package struct DeadLetterUnreadable: StoreCall {
    package var worker: Int64
    /// The lanes to examine.
    package var lanes: [Lane]
    /// The most jobs to examine in each lane.
    package var limit = 500

    package var statement: Statement {
        Statement(
            "select breakwater.dead_letter_unreadable($1, $2, $3, $4, $5)",
            [
                .int8(worker), .textArray(lanes.map(\.queue)), .textArray(lanes.map(\.kind)),
                .int2Array(lanes.map(\.priority)), .int4(Int32(clamping: limit)),
            ]
        )
    }

    package func decode(_ result: QueryResult) throws(PostgresError) -> [Int64] { try result[0][0].int64Array() }
}

/// `breakwater.flush`: makes this worker's claims durable if there is no settle that would.
package struct Flush: StoreCall {
    package var worker: Int64

    package var statement: Statement { Statement("select breakwater.flush($1)", [.int8(worker)]) }

    package func decode(_ result: QueryResult) {}
}

/// `breakwater.claim_suspects`: claims some suspects, which must run apart from other jobs, for a worker that holds
/// nothing else.
package struct ClaimSuspects: StoreCall {
    /// The worker that claims.
    package var worker: Int64

    package var statement: Statement {
        Statement(
            """
            select c.*, breakwater.checkpoints(c.kind, c.ids) as checkpoints from breakwater.claim_suspects($1) c
            """,
            [.int8(worker)]
        )
    }

    package func decode(_ result: QueryResult) throws(PostgresError) -> [ClaimedJob] {
        try ClaimedJob.all(of: result)
    }
}

/// A claimed job with its position in its lane.
package struct ClaimedJob: Sendable {
    package var job: Job
    package var position: Int64
    /// When the job may start, if a rate makes it wait.
    var startsAt: MonotonicClock.Instant?

    package var lane: Lane { Lane(queue: job.queue, kind: job.kind, priority: Int16(clamping: job.priority)) }

    /// Whether the job starts before another of its kind.
    func startsBefore(_ other: ClaimedJob) -> Bool {
        (job.priority, position) < (other.job.priority, other.position)
    }

    /// Whether the job is in this lane.
    func isIn(_ lane: Lane) -> Bool {
        job.priority == Int(lane.priority) && job.kind == lane.kind && job.queue == lane.queue
    }

    /// Decodes the rows of `claim` and `claim_suspects`. Each row is a claim with its jobs in arrays.
    fileprivate static func all(of result: QueryResult) throws(PostgresError) -> [ClaimedJob] {
        let now = MonotonicClock.Instant.now
        var jobs: [ClaimedJob] = []
        for row in result where row["retry_after"].isNull {
            let ids = try row["ids"].int64Array()
            let delays = row["delays"].isNull ? [] : try row["delays"].doubleArray()
            let positions = try row["positions"].int64Array()
            let payloads = try row["payloads"].textSlices()
            let attempts = try row["attempts"].int64Array()
            let handedBack = try row["handed_back"].int64Array()
            let maxAttempts = try row["max_attempts"].int64OptionalArrayOrNil() ?? []
            let dates = try row["enqueued_at"].dateArray()
            let waited = try row["waited"].doubleArray()
            let tuples = try row["tuples"].tupleIDArray()
            let traceparents = try row["traceparents"].stringOptionalArrayOrNil() ?? []
            let tracestates = try row["tracestates"].stringOptionalArrayOrNil() ?? []
            let keys = try row["circuit_keys"].stringArray()
            let generations = try row["generations"].int64Array()
            let checkpoints = try row["checkpoints"].stringOptionalArrayOrNil()
            let counts = [
                positions.count, payloads.count, attempts.count, handedBack.count, maxAttempts.count, dates.count,
                waited.count, tuples.count, traceparents.count, tracestates.count,
            ]
            guard counts.allSatisfy({ $0 == ids.count }), delays.isEmpty || delays.count == ids.count,
                checkpoints.map({ $0.count == ids.count }) ?? true,
                keys.count == generations.count, let key = keys.first,
                keys.count == 1 || keys.count == ids.count
            else { throw PostgresError(.decoding, "breakwater.claim answered with arrays of different lengths") }

            // These values are common to all jobs of the claim.
            var common = Job(kind: try row["kind"].string(), enqueuedAt: .distantPast)
            common.queue = try row["queue"].string()
            common.priority = try row["priority"].int()
            common.lease = try row["lease"].int64()
            common.isProbe = try row["is_probe"].bool()
            common.circuitKey = key
            common.generation = generations[0]
            common.claimedAt = now

            jobs.reserveCapacity(jobs.count + ids.count)
            for place in ids.indices {
                var job = common
                job.id = ids[place]
                job.payloadSource = .answer(payloads[place])
                job.attempt = Int(attempts[place])
                job.handedBack = Int(handedBack[place])
                job.maxAttempts = Int(maxAttempts[place] ?? 0)
                job.enqueuedAt = dates[place]
                job.waited = waited[place]
                job.tuple = tuples[place]
                if keys.count > 1 { job.generation = generations[place] }
                if traceparents[place] != nil || tracestates[place] != nil || (keys.count > 1 && keys[place] != key) {
                    var texts = common.origin.texts
                    texts.traceparent = traceparents[place]
                    texts.tracestate = tracestates[place]
                    if keys.count > 1 { texts.circuitKey = keys[place] }
                    job.origin = Job.Origin(texts)
                }
                if let checkpoint = checkpoints?[place] { job.checkpoint = checkpoint }
                var claimed = ClaimedJob(job: job, position: positions[place])
                if !delays.isEmpty, delays[place] > 0 { claimed.startsAt = now + .seconds(delays[place]) }
                jobs.append(claimed)
            }
        }
        return jobs
    }
}

extension [ClaimedJob] {
    var payloadBytes: Int { reduce(0) { $0 + $1.job.payloadSource.byteCount } }
}

/// An ordered stream of jobs that claims walk along.
package struct Lane: Sendable, Hashable {
    package var queue: String
    package var kind: String
    package var priority: Int16
}
