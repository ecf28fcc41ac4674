package import Foundation
import Libpq

/// A job to add.
package struct NewJob: Equatable, Sendable {
    package var kind: String
    /// The payload, one JSON value as text.
    package var payload = "{}"
    package var queue = "default"
    package var priority = 5
    /// When the job is due; nil for now.
    package var runAt: Date?
    /// The delay from the database's current time. It takes precedence over ``runAt``.
    package var delay: Duration?
    package var maxAttempts: Int?
    package var uniqueKey: String?
    package var traceparent: String?
    package var tracestate: String?
    /// The jobs that it waits for.
    package var after: [Int64] = []
    /// What becomes of it when one of these dies: hold, cancel or run; nil for the default.
    package var onDead: String?
    /// The batch that it becomes part of.
    package var batch: Int64?

    package init(kind: String, payload: String = "{}") {
        self.kind = kind
        self.payload = payload
    }
}

/// One row of `breakwater.job_status`: a live job.
package struct JobStatus: Equatable, Sendable {
    package var id: Int64
    package var queue: String
    package var kind: String
    package var priority: Int
    package var attempt: Int
    /// The limit of the job or of its handler; nil if neither has one.
    package var maxAttempts: Int?
    package var state: String
    /// The reason why the job does not run, or the worker that runs it.
    package var why: String
    package var enqueuedAt: Date
    /// When the job is due, if it is scheduled.
    package var runAt: Date?
    package var uniqueKey: String?
    /// JSON.
    package var payload: String
    /// A JSON list with one object for each failed run.
    package var errors: String
    /// How much of a running job's work is done, from 0 to 1, and what is being done, if its run has said.
    package var fraction: Double?
    package var note: String?
}

/// One row of `breakwater.result`: a job that succeeded, of a kind whose results are kept.
package struct JobSuccess: Equatable, Sendable {
    package var id: Int64
    package var kind: String
    /// The result as JSON; nil for none.
    package var result: String?
    /// Whether the fallback of a circuit gave the result instead of the handler.
    package var isByFallback: Bool
    package var finishedAt: Date
    package var expiresAt: Date
}

/// The known state or end of a job.
package enum JobStory: Equatable, Sendable {
    case waitsOrRuns(JobStatus)
    case died(DeadLetter)
    case succeeded(JobSuccess)
    /// The job is in the history of its kind.
    case finished(FinishedJob)
}

/// One failed run of a job.
package struct FailedRun: Equatable, Sendable {
    package var attempt: Int?
    package var className: String
    /// The failure's name and message.
    package var failure: String
    package var at: Date?
    /// The name of the worker, or its number if its name is not known.
    package var worker: String
}

extension AdminDatabase {
    /// `breakwater.enqueue`: adds a job and returns its id, or the id of the live job that has its unique key.
    package func enqueue(_ job: NewJob) async throws -> Int64 {
        try await one(
            """
            select breakwater.enqueue($1, $2, queue => $3, priority => $4, run_at => coalesce(now() + $5, $6),
                                      max_attempts => $7, unique_key => $8, traceparent => $9, tracestate => $10,
                                      after => $11, on_dead => coalesce($12, 'hold'), batch => $13)
            """,
            [
                .text(job.kind), .jsonb(job.payload), .text(job.queue), .int4(Int32(clamping: job.priority)),
                .interval(job.delay), .timestamptz(job.runAt), .int4(job.maxAttempts.map { Int32(clamping: $0) }),
                .text(job.uniqueKey), .text(job.traceparent), .text(job.tracestate), .int8Array(job.after),
                .text(job.onDead), .int8(job.batch),
            ]
        )[0].int64()
    }

    /// The state of a live job, or how a job ended. Nil when nothing is known of the job.
    package func story(ofJob id: Int64) async throws -> JobStory? {
        if let status = try await jobStatus(id: id) { return .waitsOrRuns(status) }
        if let letter = try await deadLetter(id: id) { return .died(letter) }
        if let finished = try await finishedJob(id: id) { return .finished(finished) }
        return try await success(id: id).map { .succeeded($0) }
    }

    /// The failed runs of a job, oldest first.
    ///
    /// - Parameter errors: The value of `job.errors` or `dead_letter.errors`.
    package func failedRuns(_ errors: String) async throws -> [FailedRun] {
        try await read(
            """
            select (e ->> 'attempt')::int8 as attempt, coalesce(e ->> 'class', '') as class,
                   concat_ws(': ', e ->> 'name', e ->> 'message') as failure, (e ->> 'at')::timestamptz as at,
                   coalesce(e ->> 'worker_name', w.name, e ->> 'worker', '') as worker
              from jsonb_array_elements($1) with ordinality o(e, position)
              left join breakwater.worker w on w.id = (e ->> 'worker')::int8
             order by position
            """,
            [.jsonb(errors)]
        ).map { row in
            FailedRun(
                attempt: try row["attempt"].intOrNil(),
                className: try row["class"].string(),
                failure: try row["failure"].string(),
                at: try row["at"].dateOrNil(),
                worker: try row["worker"].string()
            )
        }
    }

    /// `breakwater.cancel`: dead-letters a waiting job, or asks the worker of a running one to cancel it. Returns false
    /// when there is no such job.
    package func cancel(id: Int64, reason: String? = nil, actor: String? = nil) async throws -> Bool {
        try await one(
            "select breakwater.cancel($1, $2, coalesce($3, session_user))",
            [.int8(id), .text(reason), .text(actor)]
        )[0].bool()
    }

    /// `breakwater.run_now`: makes a scheduled job ready. Returns false when there is no such job.
    package func runNow(id: Int64, reason: String? = nil, actor: String? = nil) async throws -> Bool {
        try await one(
            "select breakwater.run_now($1, $2, coalesce($3, session_user))",
            [.int8(id), .text(reason), .text(actor)]
        )[0].bool()
    }

    /// `breakwater.run_through`: runs a job in spite of an open circuit or a pause. Returns false when no such job
    /// waits.
    package func runThrough(id: Int64, reason: String? = nil, actor: String? = nil) async throws -> Bool {
        try await one(
            "select breakwater.run_through($1, $2, coalesce($3, session_user))",
            [.int8(id), .text(reason), .text(actor)]
        )[0].bool()
    }

    /// The result of a test shot.
    package struct ProbeResult: Sendable {
        /// The outcome: succeeded, failed, unavailable, throttled, discarded, snoozed or released.
        package var outcome: String
        package var name: String?
        package var message: String?
    }

    /// The id of the latest probe result.
    package func lastProbeResult() async throws -> Int64 {
        try await read("select coalesce(max(id), 0) from breakwater.probe_result")[0][0].int64()
    }

    /// The result of a job as a probe, if there is one with an id above `last`.
    package func probeResult(ofJob id: Int64, after last: Int64) async throws -> ProbeResult? {
        let rows = try await read(
            "select outcome, name, message from breakwater.probe_result where job = $1 and id > $2 order by id limit 1",
            [.int8(id), .int8(last)]
        )
        guard rows.count == 1 else { return nil }
        return ProbeResult(
            outcome: try rows[0][0].string(),
            name: try rows[0][1].stringOrNil(),
            message: try rows[0][2].stringOrNil()
        )
    }

    /// `breakwater.set_priority`: moves a waiting job to another lane. Returns false when there is no such job.
    package func setPriority(id: Int64, to priority: Int, reason: String?, actor: String?) async throws -> Bool {
        try await one(
            "select breakwater.set_priority($1, $2, $3, coalesce($4, session_user))",
            [.int8(id), .int4(Int32(clamping: priority)), .text(reason), .text(actor)]
        )[0].bool()
    }

    private func jobStatus(id: Int64) async throws -> JobStatus? {
        try await read(
            """
            select id, queue, kind, priority, attempt, max_attempts, state, why, enqueued_at, run_at, unique_key, payload,
                   coalesce(errors, '[]') as errors, fraction, note
              from breakwater.job_status where id = $1
            """,
            [.int8(id)]
        ).first.map(Self.jobStatus)
    }

    static func jobStatus(_ row: Row) throws -> JobStatus {
        JobStatus(
            id: try row["id"].int64(),
            queue: try row["queue"].string(),
            kind: try row["kind"].string(),
            priority: try row["priority"].int(),
            attempt: try row["attempt"].int(),
            maxAttempts: try row["max_attempts"].intOrNil(),
            state: try row["state"].string(),
            why: try row["why"].string(),
            enqueuedAt: try row["enqueued_at"].date(),
            runAt: try row["run_at"].dateOrNil(),
            uniqueKey: try row["unique_key"].stringOrNil(),
            payload: try row["payload"].string(),
            errors: try row["errors"].string(),
            fraction: try row["fraction"].doubleOrNil(),
            note: try row["note"].stringOrNil()
        )
    }

    private func success(id: Int64) async throws -> JobSuccess? {
        try await read(
            "select id, kind, result, by_fallback, finished_at, expires_at from breakwater.result where id = $1",
            [.int8(id)]
        ).first.map { row in
            JobSuccess(
                id: try row["id"].int64(),
                kind: try row["kind"].string(),
                result: try row["result"].stringOrNil(),
                isByFallback: try row["by_fallback"].bool(),
                finishedAt: try row["finished_at"].date(),
                expiresAt: try row["expires_at"].date()
            )
        }
    }
}
