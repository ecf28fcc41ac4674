package import Foundation
import Libpq

/// Selects jobs. Every condition that is not nil must hold.
package struct JobFilter: Equatable, Sendable {
    package var kind: String?
    package var queue: String?
    package var state: State?
    /// An SQL/JSON path that the payload must match: `$.customer ? (@ == 17)`, or `$.total > 100`.
    package var path: String?
    /// The unique key, or the value of the payload by which the kind's jobs are found.
    package var key: String?
    /// Only jobs that were enqueued at this time or later, or, if they have ended, that ended then.
    package var since: Date?
    /// Only jobs that were enqueued, or ended, before this time.
    package var until: Date?

    /// The states that can be searched for.
    package enum State: String, CaseIterable, Sendable {
        /// All jobs that do not run and have not ended.
        case waiting
        case ready, running, scheduled, retrying, parked, dependent
        case succeeded
        case deadLetter = "dead_letter"

        /// The outcome of jobs that have ended in this state; nil for jobs that wait or run.
        package var outcome: String? { self == .succeeded || self == .deadLetter ? rawValue : nil }
    }

    /// Whether jobs that wait or run can match.
    package var includesLive: Bool { state?.outcome == nil }
    /// Whether jobs that have ended can match.
    package var includesEnded: Bool { state == nil || state?.outcome != nil }

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
    /// `breakwater.find_jobs`: jobs that wait or run.
    ///
    /// - Parameters:
    ///   - filter: The jobs to find.
    ///   - before: Only jobs with a lower id are returned; nil for all.
    ///   - page: The most jobs to return.
    ///   - cap: The most jobs to count.
    ///   - patience: How long the search may take. Defaults to 80 ms, which a user hardly notices.
    package func findJobs(
        _ filter: JobFilter,
        before: Int64? = nil,
        page: Int,
        cap: Int,
        patience: Duration = .milliseconds(80)
    ) async throws -> FoundJobs {
        let found = try await read(
            """
            select ids, searched_to
              from breakwater.find_jobs($1, $2, $3, $4, $5::text::jsonpath, $6, $7, $8, $9, $10)
            """,
            [
                .int8(before), .text(filter.kind), .text(filter.queue), .text(filter.state?.rawValue),
                .text(filter.path), .int4(Int32(clamping: cap)), .interval(patience), .text(filter.key),
                .timestamptz(filter.since), .timestamptz(filter.until),
            ],
            timeout: patience + .seconds(25)
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
                   \(Self.shortPayload("s.payload")) as payload
              from unnest($1::bigint[]) i(id)
             cross join lateral (select * from breakwater.job_status o where o.id = i.id) s
             order by s.id desc
            """,
            [.int8Array(ids)]
        ).map(Self.jobStatus)
    }

    /// An SQL expression for a payload in a list: the beginning of its text, or only the size of a large one.
    static func shortPayload(_ column: String) -> String {
        """
        case when pg_column_size(\(column)) <= 8000 then left(\(column)::text, 300)
             else pg_size_pretty(pg_column_size(\(column))::bigint) end
        """
    }
}
