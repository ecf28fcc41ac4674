package import Foundation
import Libpq

/// One row of `breakwater.schedule_status`.
package struct ScheduleStatus: Equatable, Sendable {
    package var name: String
    /// Its cron expression; nil if it has an interval.
    package var cron: String?
    package var every: Duration?
    package var timeZone: String
    package var kind: String
    package var queue: String
    /// JSON, without the key `schedule`.
    package var payload: String
    package var priority: Int
    package var uniqueKey: String?
    package var missed: String
    package var missedAfter: Duration
    package var missedLimit: Int
    package var overlap: String
    /// active, waiting, overdue, failing or paused.
    package var state: String
    /// When it runs next, or why it does not.
    package var why: String
    /// The next five slots; empty if it is paused.
    package var nextSlots: [Date]
    /// The same as local times of its time zone.
    package var nextLocalTimes: [String]
    /// The time until the next slot; nil if it is paused.
    package var nextIn: Duration?
    /// The last slot that got a job, the job, and how late it was enqueued.
    package var lastSlot: Date?
    package var lastJob: Int64?
    package var lateness: Duration?
    package var enqueued: Int64
    package var skipped: Int64
    package var missedSlots: Int64
    package var setBy: String
    package var setAt: Date
    /// The last worker that started with a configuration that names it; nil if none did.
    package var configuredBy: String?
    package var configuredAt: Date?
}

/// One row of `breakwater.schedule_slot`: what became of a slot.
package struct ScheduleSlot: Equatable, Sendable {
    package var slot: Date
    /// Whether a user ran the schedule by hand.
    package var isByHand: Bool
    /// enqueued, skipped or missed.
    package var outcome: String
    /// The job that was enqueued, or the one that had not ended.
    package var job: Int64?
    /// How many slots the row stands for.
    package var slots: Int
    package var at: Date
}

/// A schedule that does not run as it should: it is paused, failing or overdue.
package struct IdleSchedule: Equatable, Sendable {
    package var name: String
    package var state: String
    package var why: String
}

/// The settings of a schedule to set. What is nil gets its default in SQL.
package struct NewSchedule: Equatable, Sendable {
    package var name: String
    package var cron: String?
    package var every: Duration?
    package var timeZone: String?
    package var kind: String
    package var queue: String?
    package var payload: String?
    package var priority: Int?
    package var uniqueKey: String?
    package var missed: String?
    package var missedAfter: Duration?
    package var missedLimit: Int?
    package var overlap: String?

    package init(name: String, kind: String) {
        self.name = name
        self.kind = kind
    }
}

extension AdminDatabase {
    /// `breakwater.schedule_status`, by name.
    ///
    /// - Parameter name: The schedule; nil for all.
    package func schedules(_ name: String? = nil) async throws -> [ScheduleStatus] {
        try await read(
            """
            select s.name, s.cron, extract(epoch from s.every)::float8 as every, s.time_zone, s.kind, s.queue,
                   s.payload, s.priority, s.unique_key, s.missed, extract(epoch from s.missed_after)::float8 as missed_after,
                   s.missed_limit, s.overlap, s.state, s.why, s.next_slots,
                   array(select to_char(n.slot at time zone s.time_zone, 'Dy YYYY-MM-DD HH24:MI:SS')
                           from unnest(s.next_slots) n(slot)) as next_local,
                   extract(epoch from s.next_at - now())::float8 as next_in, s.last_slot, s.last_job,
                   s.lateness, s.enqueued, s.skipped, s.missed_slots, s.set_by, s.set_at, s.configured_by, s.configured_at
              from breakwater.schedule_status s
             where $1::text is null or s.name = $1
             order by s.name
            """,
            [.text(name)]
        ).map { try ScheduleStatus($0) }
    }

    /// The schedules that are paused, failing or overdue, by name.
    ///
    /// - Parameter limit: The most schedules to return.
    package func idleSchedules(limit: Int) async throws -> [IdleSchedule] {
        try await read(
            """
            select s.name, s.state, s.why from breakwater.schedule_status s
             where s.state in ('paused', 'failing', 'overdue') order by s.name limit $1
            """,
            [.int8(Int64(limit))]
        ).map { row in
            IdleSchedule(
                name: try row["name"].string(),
                state: try row["state"].string(),
                why: try row["why"].string()
            )
        }
    }

    /// The latest slots of a schedule, the newest first.
    package func slots(ofSchedule name: String, limit: Int) async throws -> [ScheduleSlot] {
        try await read(
            """
            select l.slot, l.by_hand, l.outcome, l.job, l.slots, l.at from breakwater.schedule_slot l
             where l.schedule = $1 order by l.slot desc limit $2
            """,
            [.text(name), .int8(Int64(limit))]
        ).map { row in
            ScheduleSlot(
                slot: try row["slot"].date(),
                isByHand: try row["by_hand"].bool(),
                outcome: try row["outcome"].string(),
                job: try row["job"].int64OrNil(),
                slots: try row["slots"].int(),
                at: try row["at"].date()
            )
        }
    }

    /// `breakwater.set_schedule`: adds a schedule or replaces its settings. Returns its next slot.
    package func set(_ schedule: NewSchedule, reason: String?, actor: String?) async throws -> Date {
        try await one(
            """
            select breakwater.set_schedule(
                $1, cron => $2, every => $3, time_zone => $4, kind => $5, payload => $6, queue => $7, priority => $8,
                unique_key => $9, missed => $10, missed_after => $11, missed_limit => $12, overlap => $13,
                reason => $14, actor => coalesce($15, session_user))
            """,
            [
                .text(schedule.name), .text(schedule.cron), .interval(schedule.every), .text(schedule.timeZone),
                .text(schedule.kind), .jsonb(schedule.payload), .text(schedule.queue),
                .int4(schedule.priority.map { Int32(clamping: $0) }), .text(schedule.uniqueKey),
                .text(schedule.missed), .interval(schedule.missedAfter),
                .int4(schedule.missedLimit.map { Int32(clamping: $0) }), .text(schedule.overlap), .text(reason),
                .text(actor),
            ]
        )[0].date()
    }

    /// `breakwater.pause_schedule`.
    package func pause(schedule name: String, reason: String, actor: String?) async throws {
        _ = try await one(
            "select breakwater.pause_schedule($1, $2, coalesce($3, session_user))",
            [.text(name), .text(reason), .text(actor)]
        )
    }

    /// `breakwater.resume_schedule`. Returns the next slot; nil if the schedule was not paused.
    package func resume(schedule name: String, reason: String?, actor: String?) async throws -> Date? {
        try await one(
            "select breakwater.resume_schedule($1, $2, coalesce($3, session_user))",
            [.text(name), .text(reason), .text(actor)]
        )[0].dateOrNil()
    }

    /// `breakwater.run_schedule`: enqueues a job now. Returns the job, and whether it is new: if not, it is the one that
    /// has not ended and that the schedule must not overlap.
    package func run(schedule name: String, reason: String?, actor: String?) async throws -> (job: Int64, isNew: Bool) {
        let row = try await one(
            "select job, is_new from breakwater.run_schedule($1, $2, coalesce($3, session_user))",
            [.text(name), .text(reason), .text(actor)]
        )
        return (try row["job"].int64(), try row["is_new"].bool())
    }

    /// `breakwater.remove_schedule`. Returns false if there is no such schedule.
    package func remove(schedule name: String, reason: String?, actor: String?) async throws -> Bool {
        try await one(
            "select breakwater.remove_schedule($1, $2, coalesce($3, session_user))",
            [.text(name), .text(reason), .text(actor)]
        )[0].bool()
    }
}

extension ScheduleStatus {
    fileprivate init(_ row: Row) throws {
        self.init(
            name: try row["name"].string(),
            cron: try row["cron"].stringOrNil(),
            every: try row["every"].secondsOrNil(),
            timeZone: try row["time_zone"].string(),
            kind: try row["kind"].string(),
            queue: try row["queue"].string(),
            payload: try row["payload"].string(),
            priority: try row["priority"].int(),
            uniqueKey: try row["unique_key"].stringOrNil(),
            missed: try row["missed"].string(),
            missedAfter: try row["missed_after"].secondsOrNil() ?? .zero,
            missedLimit: try row["missed_limit"].int(),
            overlap: try row["overlap"].string(),
            state: try row["state"].string(),
            why: try row["why"].string(),
            nextSlots: try row["next_slots"].dateArray(),
            nextLocalTimes: try row["next_local"].stringArray(),
            nextIn: try row["next_in"].secondsOrNil(),
            lastSlot: try row["last_slot"].dateOrNil(),
            lastJob: try row["last_job"].int64OrNil(),
            lateness: try row["lateness"].secondsOrNil(),
            enqueued: try row["enqueued"].int64(),
            skipped: try row["skipped"].int64(),
            missedSlots: try row["missed_slots"].int64(),
            setBy: try row["set_by"].string(),
            setAt: try row["set_at"].date(),
            configuredBy: try row["configured_by"].stringOrNil(),
            configuredAt: try row["configured_at"].dateOrNil()
        )
    }
}
