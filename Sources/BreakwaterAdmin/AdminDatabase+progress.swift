package import Foundation
import Libpq

/// What the runs of a job have reported, and whether a user has cancelled the job while it runs.
package struct JobProgress: Equatable, Sendable {
    /// How much of the work is done, from 0 to 1, and what is being done; nil if the job does not run, or its run has
    /// not said.
    package var fraction: Double?
    package var note: String?
    /// When a run last reported something that was stored.
    package var reportedAt: Date?
    /// The state from which the next run can go on, as JSON.
    package var checkpoint: String?
    /// The user who has cancelled the running job, and when.
    package var cancelledBy: String?
    package var cancelledAt: Date?

    /// The fraction in whole per cent.
    package var percent: Int? { fraction.map { Int(($0 * 100).rounded(.down)) } }
}

/// One row of `breakwater.running_job`.
package struct RunningJob: Equatable, Sendable {
    package var id: Int64
    package var kind: String
    package var worker: String
    package var since: Date
    package var progress: JobProgress
}

extension AdminDatabase {
    /// The progress of a job or of a dead letter; nil if nothing was reported and nobody has cancelled the job.
    package func progress(ofJob id: Int64) async throws -> JobProgress? {
        try await read(
            """
            select r.fraction, r.note, p.updated_at as reported_at, p.checkpoint, r.cancelled_by, r.cancelled_at
              from (select $1::bigint as id) i
              left join breakwater.progress p on p.job = i.id
              left join lateral (select * from breakwater.running_job o where o.id = i.id) r on true
             where p.job is not null or r.cancelled_at is not null
            """,
            [.int8(id)]
        ).first.map(Self.progress)
    }

    /// The running jobs that have reported something or that a user has cancelled, the latest report first.
    package func runningJobs(limit: Int) async throws -> [RunningJob] {
        try await read(
            """
            select id, kind, coalesce(worker_name, worker::text) as worker, claimed_at, fraction, note, reported_at,
                   null as checkpoint, cancelled_by, cancelled_at
              from breakwater.running_job
             where reported_at is not null or cancelled_at is not null
             order by greatest(reported_at, cancelled_at) desc, id
             limit $1
            """,
            [.int8(Int64(limit))]
        ).map { row in
            RunningJob(
                id: try row["id"].int64(),
                kind: try row["kind"].string(),
                worker: try row["worker"].string(),
                since: try row["claimed_at"].date(),
                progress: try Self.progress(row)
            )
        }
    }

    private static func progress(_ row: Row) throws -> JobProgress {
        JobProgress(
            fraction: try row["fraction"].doubleOrNil(),
            note: try row["note"].stringOrNil(),
            reportedAt: try row["reported_at"].dateOrNil(),
            checkpoint: try row["checkpoint"].stringOrNil(),
            cancelledBy: try row["cancelled_by"].stringOrNil(),
            cancelledAt: try row["cancelled_at"].dateOrNil()
        )
    }
}
