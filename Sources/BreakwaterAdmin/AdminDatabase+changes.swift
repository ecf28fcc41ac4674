package import Foundation
import Libpq

/// What is changed of a waiting job. What is nil stays as it is.
package struct JobChanges: Equatable, Sendable {
    /// JSON.
    package var payload: String?
    package var runAt: Date?
    package var maxAttempts: Int?

    package init(payload: String? = nil, runAt: Date? = nil, maxAttempts: Int? = nil) {
        self.payload = payload
        self.runAt = runAt
        self.maxAttempts = maxAttempts
    }
}

/// A change to many waiting jobs.
package enum JobAction: Sendable {
    case cancel, runNow
}

/// Selects waiting jobs to change. Every condition that is not nil must hold, and one must be given.
package struct JobChoice: Equatable, Sendable {
    package var kind: String?
    package var queue: String?
    /// An SQL/JSON path that the payload must match.
    package var path: String?

    package init(kind: String? = nil, queue: String? = nil, path: String? = nil) {
        self.kind = kind
        self.queue = queue
        self.path = path
    }

    package var isEmpty: Bool { self == JobChoice() }
}

/// The result of changing many jobs so far. The value is passed on from portion to portion.
package struct JobPortions: Sendable {
    package var done = 0
    /// Jobs that match and were left, because they run or another session has locked them.
    package var busy = 0
    package var isComplete = false
    /// Only jobs with ids up to this one are changed; nil for all.
    package var until: Int64?
    fileprivate var last: Int64?
    fileprivate var audit: Int64?

    package init(until: Int64?) { self.until = until }
}

extension AdminDatabase {
    /// `breakwater.edit_job`: changes a waiting job. Returns false when there is no such job.
    package func edit(id: Int64, _ changes: JobChanges, reason: String?, actor: String?) async throws -> Bool {
        try await one(
            "select breakwater.edit_job($1, $2, $3, $4, $5, coalesce($6, session_user))",
            [
                .int8(id), .jsonb(changes.payload), .timestamptz(changes.runAt),
                .int4(changes.maxAttempts.map { Int32(clamping: $0) }), .text(reason), .text(actor),
            ]
        )[0].bool()
    }

    /// `breakwater.why_waits`: why a job that is ready still does not start; nil if only a free worker is missing.
    package func whyWaits(id: Int64) async throws -> String? {
        try await read("select breakwater.why_waits($1)", [.int8(id)]).first?[0].stringOrNil()
    }

    /// The highest id of a job, so that a change leaves out the jobs that are enqueued while it goes on.
    package func lastJob() async throws -> Int64? {
        try await read("select max(id) from breakwater.job").first?[0].int64OrNil()
    }

    /// `breakwater.cancel_jobs_some` and `breakwater.run_jobs_now_some`: changes the next portion of some waiting jobs.
    ///
    /// - Parameters:
    ///   - limit: The most jobs to change.
    ///   - isDryRun: Only counts the jobs.
    ///   - total: The result of the previous portions, to which this portion is added.
    package func change(
        _ choice: JobChoice,
        _ action: JobAction,
        limit: Int,
        isDryRun: Bool,
        reason: String?,
        actor: String?,
        total: inout JobPortions
    ) async throws {
        let function =
            switch action {
            case .cancel: "cancel_jobs_some"
            case .runNow: "run_jobs_now_some"
            }
        let row = try await one(
            """
            select done, busy, last, is_last, audit
              from breakwater.\(function)(
                       $1, $2, null, $3::text::jsonpath, $4, $5, $6, $7, $8, coalesce($9, session_user), $10)
            """,
            [
                .text(choice.kind), .text(choice.queue), .text(choice.path),
                .int8(total.until), .int8(total.last), .int4(Int32(clamping: limit)), .bool(isDryRun), .text(reason),
                .text(actor), .int8(total.audit),
            ],
            timeout: .seconds(300)
        )
        total.done += try row["done"].int()
        total.busy += try row["busy"].int()
        total.last = try row["last"].int64OrNil()
        total.isComplete = try row["is_last"].bool()
        total.audit = try row["audit"].int64OrNil()
    }
}
