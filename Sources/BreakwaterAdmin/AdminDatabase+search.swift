import Foundation
import Libpq

/// Selects jobs. Every condition that is not nil must hold.
package struct JobFilter: Equatable, Sendable {
    package var kind: String?
    package var queue: String?
    package var state: State?
    /// An SQL/JSON path that the payload must match: `$.customer ? (@ == 17)`, or `$.total > 100`.
    package var path: String?

    /// The states that can be searched for.
    package enum State: String, CaseIterable, Sendable {
        case ready, running, scheduled, retrying, parked
    }

    package init() {}
}

/// Some jobs that were found, the newest first.
package struct FoundJobs: Equatable, Sendable {
    package var jobs: [JobStatus]
    /// How many jobs match, counted up to a cap and within the part that was searched.
    package var count: Int
    /// The id below which the next page begins; nil when there are no more jobs.
    package var next: Int64?
    /// Whether the time ended before all jobs were searched, so that further matches may exist.
    package var isUnfinished: Bool
}

extension AdminDatabase {
    /// `breakwater.find_jobs`, limited to 80 ms, which a user hardly notices.
    ///
    /// - Parameters:
    ///   - filter: The jobs to find.
    ///   - before: Only jobs with a lower id are returned; nil for all.
    ///   - page: The most jobs to return.
    ///   - cap: The most jobs to count.
    package func findJobs(_ filter: JobFilter, before: Int64?, page: Int, cap: Int) async throws -> FoundJobs {
        let found = try await read(
            "select ids, searched_to from breakwater.find_jobs($1, $2, $3, $4, $5::text::jsonpath, $6, '80ms')",
            [
                .int8(before), .text(filter.kind), .text(filter.queue), .text(filter.state?.rawValue),
                .text(filter.path), .int4(Int32(clamping: cap)),
            ]
        )
        guard let row = found.first else { return FoundJobs(jobs: [], count: 0, next: nil, isUnfinished: false) }
        let ids = try row["ids"].int64Array()
        let lookedDownTo = try row["searched_to"].int64OrNil()
        let shown = Array(ids.prefix(page))
        let isMore = ids.count > page
        return FoundJobs(
            jobs: try await jobs(shown),
            count: ids.count,
            next: isMore ? shown.last : lookedDownTo,
            isUnfinished: ids.count < cap && lookedDownTo != nil
        )
    }

    /// The jobs with these ids, the newest first.
    private func jobs(_ ids: [Int64]) async throws -> [JobStatus] {
        guard !ids.isEmpty else { return [] }
        return try await read(
            """
            select s.id, s.queue, s.kind, s.priority, s.attempt, s.max_attempts, s.state, s.why, s.enqueued_at, s.run_at,
                   s.unique_key, '[]' as errors, s.fraction, s.note,
                   case when pg_column_size(s.payload) <= 8000 then left(s.payload::text, 300)
                        else pg_size_pretty(pg_column_size(s.payload)::bigint) end as payload
              from unnest($1::bigint[]) i(id)
             cross join lateral (select * from breakwater.job_status o where o.id = i.id) s
             order by s.id desc
            """,
            [.int8Array(ids)]
        ).map(Self.jobStatus)
    }
}
