import Foundation
import Libpq

/// A job to be added.
struct NewJob: Equatable {
    var kind: String
    /// One JSON value as text.
    var payload = "{}"
    var queue = "default"
    var priority = 5
    /// Nil for now.
    var runAt: Date?
    /// From the database's now; goes before ``runAt``.
    var delay: Duration?
    var maxAttempts: Int?
    var uniqueKey: String?
    var traceparent: String?
}

extension AdminDatabase {
    /// `breakwater.enqueue`: adds a job and returns its id, or that of the live job with its unique key.
    func enqueue(_ job: NewJob) async throws -> Int64 {
        try await one(
            """
            select breakwater.enqueue($1, $2, queue => $3, priority => $4, run_at => coalesce(now() + $5, $6),
                                      max_attempts => $7, unique_key => $8, traceparent => $9)
            """,
            [
                .text(job.kind), .jsonb(job.payload), .text(job.queue), .int4(Int32(clamping: job.priority)),
                .interval(job.delay), .timestamptz(job.runAt), .int4(job.maxAttempts.map { Int32(clamping: $0) }),
                .text(job.uniqueKey), .text(job.traceparent),
            ]
        )[0].int64()
    }
}
