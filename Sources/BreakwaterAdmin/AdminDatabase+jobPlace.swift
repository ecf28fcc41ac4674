package import Foundation
import Libpq

/// The place of a waiting or running job among the others.
package struct JobPlace: Equatable, Sendable {
    /// When the job last became ready.
    package var readyAt: Date
    /// How many ready jobs of its queue and kind come before it, counted up to ``mostAhead``; nil if the job is not
    /// ready itself.
    package var ahead: Int?
    /// How many living workers could run the job.
    package var workers: Int
    /// How many of these workers get no jobs of its circuit now because their calls failed while those of others
    /// succeeded, or get no jobs of its kind because they are unable to run them.
    package var suspended: Int
    /// How many of these workers are draining.
    package var draining: Int
    /// How many times in a row a worker died while the job ran.
    package var crashes: Int
    package var traceparent: String?

    /// The cap of ``ahead``.
    package static let mostAhead = 10_000
}

extension AdminDatabase {
    /// The place of a job; nil when it neither waits nor runs.
    package func place(ofJob id: Int64) async throws -> JobPlace? {
        try await connection.query(
            """
            select j.ready_at, j.crashes, j.traceparent,
                   case when j.run_at is null and r.job is null then
                       (select count(*)
                          from (select from breakwater.job a
                                 where a.queue = j.queue and a.kind = j.kind and a.run_at is null
                                   and a.id not in (select o.job from breakwater.held o)
                                   and (a.priority, a.position) < (j.priority, j.position)
                                 limit $2) s) end as ahead,
                   w.workers, w.draining, w.suspended
              from breakwater.job j
              left join breakwater.held r on r.job = j.id
              left join breakwater.handler h on h.kind = j.kind
             cross join lateral (
                   select count(*) as workers, count(*) filter (where a.state <> 'running') as draining,
                          count(*) filter (where exists (
                              select from breakwater.suspension s
                               where s.worker = a.id and s.times > 0 and s.until > now()
                                 and (s.is_local and s.kind = j.kind
                                      or s.kind = case when h.shared_key is null then j.kind else '*' end
                                         and s.key = coalesce(h.shared_key, '')))) as suspended
                     from breakwater.worker a
                    where j.kind = any (a.kinds) and j.queue = any (a.queues) and a.beat_at > now() - a.lease) w
             where j.id = $1
            """,
            [.int8(id), .int8(Int64(JobPlace.mostAhead))]
        ).first.map { row in
            JobPlace(
                readyAt: try row["ready_at"].date(),
                ahead: try row["ahead"].intOrNil(),
                workers: try row["workers"].int(),
                suspended: try row["suspended"].int(),
                draining: try row["draining"].int(),
                crashes: try row["crashes"].int(),
                traceparent: try row["traceparent"].stringOrNil()
            )
        }
    }
}
