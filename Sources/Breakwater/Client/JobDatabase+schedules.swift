public import struct Foundation.Date

extension JobDatabase {
    /// Adds a schedule, or replaces the settings of the one with its name.
    ///
    /// - Parameters:
    ///   - schedule: The schedule.
    ///   - reason: Why, for the audit log. Defaults to none.
    /// - Returns: The schedule's next slot.
    /// - Throws: What the database throws; SQLSTATE 22023 if a setting is not allowed.
    @discardableResult
    public func set(_ schedule: Schedule, reason: String? = nil) async throws -> Date {
        let (cron, every): (String?, String?) =
            switch schedule.times {
            case .cron(let expression): (expression, nil)
            case .every(let interval): (nil, "\(interval.inSeconds) seconds")
            }
        let statement = TextStatement(
            """
            select extract(epoch from breakwater.set_schedule($1::text, cron => $2::text, \
            every => $3::text::interval, time_zone => $4::text, kind => $5::text, payload => $6::text::jsonb, \
            queue => $7::text, priority => $8::text::int, unique_key => $9::text, missed => $10::text, \
            missed_after => $11::text::interval, missed_limit => $12::text::int, overlap => $13::text, \
            reason => $14::text))::text
            """,
            [
                schedule.name, cron, every, schedule.timeZone, schedule.kind, schedule.payload, schedule.queue,
                "\(schedule.priority)", schedule.uniqueKey, schedule.missed.rawValue,
                "\(schedule.missedAfter.inSeconds) seconds", "\(schedule.missedLimit)", schedule.overlap.rawValue,
                reason,
            ]
        )
        let texts = try await texts(of: statement)
        guard let next = texts.first.flatMap({ $0 }).flatMap(Double.init) else {
            throw BreakwaterError.unreadable(texts.first ?? nil, statement)
        }
        return Date(timeIntervalSince1970: next)
    }

    /// Stops a schedule until it is resumed. Slots that come meanwhile get no job, neither then nor later.
    ///
    /// - Parameters:
    ///   - name: The schedule's name.
    ///   - reason: Why, for the audit log.
    /// - Throws: What the database throws; SQLSTATE P0002 if there is no such schedule.
    public func pauseSchedule(_ name: String, reason: String) async throws {
        try await call("breakwater.pause_schedule($1::text, $2::text)", [name, reason])
    }

    /// Resumes a schedule.
    ///
    /// - Parameters:
    ///   - name: The schedule's name.
    ///   - reason: Why, for the audit log. Defaults to none.
    /// - Returns: False if it was not paused.
    /// - Throws: What the database throws; SQLSTATE P0002 if there is no such schedule.
    @discardableResult
    public func resumeSchedule(_ name: String, reason: String? = nil) async throws -> Bool {
        try await isTrue("breakwater.resume_schedule($1::text, $2::text) is not null", [name, reason])
    }

    /// Enqueues a job of a schedule now, beside those of its slots.
    ///
    /// - Parameters:
    ///   - name: The schedule's name.
    ///   - reason: Why, for the audit log. Defaults to none.
    /// - Returns: The job's id. If the schedule must not overlap, it may be that of a job that has not ended.
    /// - Throws: What the database throws; SQLSTATE P0002 if there is no such schedule.
    @discardableResult
    public func runSchedule(_ name: String, reason: String? = nil) async throws -> Int64 {
        try await ids(
            of: TextStatement("select job::text from breakwater.run_schedule($1::text, $2::text)", [name, reason])
        ).only()
    }

    /// Removes a schedule. Jobs that it has enqueued are not affected.
    ///
    /// - Parameters:
    ///   - name: The schedule's name.
    ///   - reason: Why, for the audit log. Defaults to none.
    /// - Returns: False if there is no such schedule.
    /// - Throws: What the database throws.
    @discardableResult
    public func removeSchedule(_ name: String, reason: String? = nil) async throws -> Bool {
        try await isTrue("breakwater.remove_schedule($1::text, $2::text)", [name, reason])
    }
}
