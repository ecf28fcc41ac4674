package import Foundation
import Libpq

/// One row of `breakwater.finished`: a job of a kind with a history that has ended.
package struct FinishedJob: Equatable, Sendable {
    package var id: Int64
    package var kind: String
    package var queue: String
    package var priority: Int
    /// `succeeded` or `dead_letter`.
    package var outcome: String
    /// The reason of the dead letter, or `fallback`; nil if the handler succeeded.
    package var reason: String?
    /// How many runs were counted.
    package var attempt: Int
    /// The value of the payload by which the job is found.
    package var key: String?
    package var uniqueKey: String?
    package var enqueuedAt: Date
    package var finishedAt: Date
    /// The time of the last run, from its claim to its end; nil if the job ended while it waited.
    package var took: Duration?
    /// The name of the worker of the last run, or its number.
    package var worker: String?
    package var traceparent: String?
    /// A JSON list with one object for each failed run.
    package var errors: String
    /// JSON; nil if the kind keeps no results.
    package var result: String?
    /// JSON; nil if the kind's history has no payloads.
    package var payload: String?

    package var hasSucceeded: Bool { outcome == "succeeded" }
}

/// A job that has ended, in a list: from the history, or a dead letter.
package struct EndedJob: Equatable, Sendable {
    package var id: Int64
    package var kind: String
    package var queue: String
    /// `succeeded` or `dead_letter`.
    package var outcome: String
    /// The reason and the last error of a job that did not succeed.
    package var why: String
    package var attempt: Int
    package var key: String?
    package var uniqueKey: String?
    package var enqueuedAt: Date
    package var endedAt: Date
    package var worker: String?
    /// The payload as text, shortened; nil if it is not kept.
    package var payload: String?
}

/// The end after which a list goes on with earlier ends.
package struct EndPlace: Equatable, Sendable {
    package var time: DatabaseTime
    package var id: Int64

    package init(time: DatabaseTime, id: Int64) {
        self.time = time
        self.id = id
    }
}

/// Some jobs that have ended, the last first.
package struct FoundEndedJobs: Equatable, Sendable {
    package var jobs: [EndedJob]
    /// Where the next page begins; nil when there are no more jobs.
    package var next: EndPlace?
    /// The time down to which the jobs were searched when the time for searching ended; nil if all were searched, or
    /// enough were found.
    package var searchedTo: Date?
}

extension AdminDatabase {
    /// The last end of a job in the history; nil if its history has none.
    package func finishedJob(id: Int64) async throws -> FinishedJob? {
        try await read(
            """
            select id, kind, queue, priority, outcome, reason, attempt, key, unique_key, enqueued_at, finished_at,
                   extract(epoch from took)::float8 as took, coalesce(worker_name, worker::text) as worker, traceparent,
                   coalesce(errors, '[]') as errors, result, payload
              from breakwater.finished where id = $1 order by finished_at desc limit 1
            """,
            [.int8(id)]
        ).first.map { row in
            FinishedJob(
                id: try row["id"].int64(),
                kind: try row["kind"].string(),
                queue: try row["queue"].string(),
                priority: try row["priority"].int(),
                outcome: try row["outcome"].string(),
                reason: try row["reason"].stringOrNil(),
                attempt: try row["attempt"].int(),
                key: try row["key"].stringOrNil(),
                uniqueKey: try row["unique_key"].stringOrNil(),
                enqueuedAt: try row["enqueued_at"].date(),
                finishedAt: try row["finished_at"].date(),
                took: try row["took"].doubleOrNil().map { .seconds($0) },
                worker: try row["worker"].stringOrNil(),
                traceparent: try row["traceparent"].stringOrNil(),
                errors: try row["errors"].string(),
                result: try row["result"].stringOrNil(),
                payload: try row["payload"].stringOrNil()
            )
        }
    }

    /// `breakwater.find_ended`: jobs of the history, and dead letters.
    ///
    /// - Parameters:
    ///   - filter: The jobs to find. States of jobs that wait or run find nothing.
    ///   - before: Only earlier ends are returned; nil for all.
    ///   - page: The most jobs to return.
    ///   - patience: How long the search may take.
    package func findEndedJobs(
        _ filter: JobFilter,
        before: EndPlace? = nil,
        page: Int,
        patience: Duration
    ) async throws -> FoundEndedJobs {
        let rows = try await read(
            """
            select f.searched_to, u.id, u.at::text as place, u.at as ended_at, coalesce(h.kind, d.kind) as kind,
                   coalesce(h.queue, d.queue) as queue, coalesce(h.outcome, 'dead_letter') as outcome,
                   coalesce(h.attempt, d.attempt) as attempt, h.key, coalesce(h.unique_key, d.unique_key) as unique_key,
                   coalesce(h.enqueued_at, d.enqueued_at) as enqueued_at,
                   coalesce(h.worker_name, h.worker::text, e.last ->> 'worker_name', e.last ->> 'worker') as worker,
                   concat_ws(': ', coalesce(h.reason, d.reason),
                             case when coalesce(h.outcome, 'dead_letter') = 'dead_letter' then e.last ->> 'name' end,
                             case when coalesce(h.outcome, 'dead_letter') = 'dead_letter'
                                  then left(e.last ->> 'message', 500) end) as why,
                   \(Self.shortPayload("p.payload")) as payload
              from breakwater.find_ended(
                       $1::text::timestamptz, $2, $3, $4, $5, $6::text::jsonpath, $7, $8, $9, $10, $11) f
              left join lateral unnest(f.ids, f.ends, f.in_history) with ordinality u(id, at, in_history, place) on true
              left join lateral (select * from breakwater.finished o
                                  where u.in_history and o.id = u.id and o.finished_at = u.at limit 1) h on true
              left join breakwater.dead_letter d on not u.in_history and d.id = u.id
             cross join lateral (select coalesce(h.payload, d.payload) as payload) p
             cross join lateral (select coalesce(h.errors, d.errors) -> -1 as last) e
             order by u.place
            """,
            [
                .text(before?.time.text), .int8(before?.id), .text(filter.kind), .text(filter.queue),
                .text(filter.state?.outcome), .text(filter.path), .text(filter.key), .timestamptz(filter.since),
                .timestamptz(filter.until), .int4(Int32(clamping: page + 1)), .interval(patience),
            ],
            timeout: patience + .seconds(25)
        )
        var found = FoundEndedJobs(jobs: [], next: nil, searchedTo: nil)
        guard let first = rows.first else { return found }
        // A dead letter may have been put back since it was found; then its kind is null.
        let shown = try rows.filter { try $0["id"].int64OrNil() != nil && $0["kind"].stringOrNil() != nil }
        found.jobs = try shown.prefix(page).map(Self.endedJob)
        if shown.count > page {
            let last = shown[page - 1]
            found.next = EndPlace(
                time: DatabaseTime(text: try last["place"].string()),
                id: try last["id"].int64()
            )
        } else {
            found.searchedTo = try first["searched_to"].dateOrNil()
        }
        return found
    }

    private static func endedJob(_ row: Row) throws -> EndedJob {
        EndedJob(
            id: try row["id"].int64(),
            kind: try row["kind"].string(),
            queue: try row["queue"].string(),
            outcome: try row["outcome"].string(),
            why: try row["why"].string(),
            attempt: try row["attempt"].int(),
            key: try row["key"].stringOrNil(),
            uniqueKey: try row["unique_key"].stringOrNil(),
            enqueuedAt: try row["enqueued_at"].date(),
            endedAt: try row["ended_at"].date(),
            worker: try row["worker"].stringOrNil(),
            payload: try row["payload"].stringOrNil()
        )
    }
}
