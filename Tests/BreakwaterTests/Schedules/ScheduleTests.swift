import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("Schedules", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct ScheduleTests {
    @Test("keep their next slot when nothing changes, and change with a record of what changed")
    func set() async throws {
        try await withSchedules { schedules in
            try await schedules.set(
                at: "12:00:00",
                "'s', cron => '0 3 * * *', kind => 'k', actor => 'ann', reason => 'why'"
            )
            #expect(try await schedules.value("next_at = '2030-01-02 03:00Z'") == "true")
            try await schedules.set(at: "2030-01-02 04:00Z", "'s', cron => '0 3 * * *', kind => 'k'")
            #expect(try await schedules.value("next_at = '2030-01-02 03:00Z'") == "true", "an overdue slot stays")
            try await schedules.set(
                at: "2030-01-02 04:00Z",
                "'s', cron => '0 3 * * *', kind => 'k', priority => 1, actor => 'bob'"
            )
            #expect(
                try await schedules.value("next_at = '2030-01-02 03:00Z' and priority = 1 and set_by = 'bob'") == "true"
            )
            let audit = try await schedules.audit()
            #expect(audit.count == 2)
            #expect(audit[0].hasPrefix("ann|schedule.set|s|why|{\"to\": {"), "\(audit)")
            #expect(audit[1] == "bob|schedule.set|s|{\"priority\": {\"to\": 1, \"from\": 5}}", "\(audit)")
        }
    }

    @Test("get the default for each setting that is null")
    func nulls() async throws {
        try await withSchedules { schedules in
            try await schedules.set(at: "12:00:00", "'s', every => '1h', kind => 'k'")
            try await schedules.set(
                at: "12:00:00",
                """
                't', every => '1h', kind => 'k', time_zone => null, payload => null, queue => null, priority => null,
                missed => null, missed_after => null, missed_limit => null, overlap => null
                """
            )
            try await schedules.database.query(
                """
                select breakwater.set_configured_schedules(
                    'w', '[{"name": "u", "every": "1h", "kind": "k", "payload": null}]')
                """
            )
            let settings = try await schedules.database.texts(
                "select distinct (breakwater.settings_of(s))::text from breakwater.schedule s"
            )
            #expect(settings.count == 1 && settings[0].contains("\"payload\": {}"), "\(settings)")
            #expect(try await schedules.database.count("schedule") == 3)
        }
    }

    @Test("have the nulls of their payload in the audit log, and no other nulls")
    func nullsInPayload() async throws {
        try await withSchedules { schedules in
            try await schedules.set(
                at: "12:00:00",
                "'s', every => '1h', kind => 'k', payload => '{\"a\": {\"b\": null}}'"
            )
            try await schedules.database.query("select breakwater.remove_schedule('s')")
            for entry in try await schedules.audit() {
                #expect(entry.contains("\"payload\": {\"a\": {\"b\": null}}"), "\(entry)")
                #expect(!entry.contains("cron"), "\(entry)")
            }
        }
    }

    @Test("that get other times first deal with the slots of the old ones that are due")
    func otherTimes() async throws {
        try await withSchedules { schedules in
            try await schedules.set(at: "12:00:00", "'s', every => '10s', kind => 'k'")
            try await schedules.set(
                at: "12:00:25",
                "'s', cron => '30 3 * * *', time_zone => 'Europe/Berlin', kind => 'l'"
            )
            #expect(try await schedules.jobs("k") == ["2030-01-01T12:00:10Z", "2030-01-01T12:00:20Z"])
            #expect(try await schedules.value("next_at = '2030-01-02 02:30Z'") == "true")
            try await schedules.run(at: "2030-01-02 02:30Z")
            #expect(try await schedules.jobs("l") == ["2030-01-02T02:30:00Z"])
        }
    }

    @Test("that get other times or are paused lose none of the slots that are due, however many there are")
    func manyDue() async throws {
        try await withSchedules { schedules in
            let settings = "every => '1s', missed_after => '2 hours'"
            try await schedules.set(at: "12:00:00", "'s', \(settings), kind => 'k'")
            try await schedules.set(at: "12:45:00", "'s', cron => '0 3 * * *', missed_after => '2 hours', kind => 'k'")
            #expect(try await schedules.jobs("k").count == 2700)
            try await schedules.set(at: "12:00:00", "'p', \(settings), kind => 'l'")
            try await schedules.query(at: "12:45:00", "select breakwater.pause_schedule('p', 'a move')")
            try await schedules.query(at: "12:50:00", "select breakwater.resume_schedule('p')")
            #expect(try await schedules.jobs("l").count == 2700)
        }
    }

    @Test("that fail are paused nevertheless, and say so")
    func pauseOfFailing() async throws {
        try await withSchedules { schedules in
            try await schedules.set(at: "12:00:00", "'s', every => '10s', kind => 'k'")
            try await schedules.database.query("alter table breakwater.job add constraint none check (false) not valid")
            try await schedules.query(at: "12:00:30", "select breakwater.pause_schedule('s', 'broken')")
            #expect(try await schedules.value("paused_at is not null and error like '%23514%'") == "true")
            #expect(try await schedules.audit().last?.contains("due_slots") == true)
        }
    }

    @Test("that are paused get no job for slots that come meanwhile, neither then nor later")
    func pause() async throws {
        try await withSchedules { schedules in
            try await schedules.set(at: "12:00:00", "'s', every => '10s', kind => 'k', missed => 'all'")
            try await schedules.run(at: "12:00:10")
            try await schedules.query(at: "12:00:11", "select breakwater.pause_schedule('s', 'a move', 'ann')")
            #expect(try await schedules.run(at: "12:01:00") == 0)
            let (state, why) = try await schedules.status(at: "12:01:00")
            #expect(state == "paused")
            #expect(why.hasPrefix("paused by ann since ") && why.hasSuffix(": a move"), "\(why)")
            let untilNext = try await schedules.query(at: "12:01:00", "select breakwater.seconds_to_next_slot()")[0]
            #expect(untilNext[0].isNull)
            let next = try await schedules.query(
                at: "12:01:01",
                "select breakwater.resume_schedule('s') = '2030-01-01 12:01:10Z'"
            )
            #expect(try next[0][0].bool())
            try await schedules.run(at: "12:01:10")
            #expect(try await schedules.jobs() == ["2030-01-01T12:00:10Z", "2030-01-01T12:01:10Z"])
            #expect(try await schedules.value("missed_slots + skipped") == "0")
            let resumed = try await schedules.query(at: "12:01:11", "select breakwater.resume_schedule('s')")[0]
            #expect(resumed[0].isNull)
            #expect(
                try await schedules.audit().dropFirst().map { $0.split(separator: "|")[1] } == [
                    "schedule.pause", "schedule.resume",
                ]
            )
        }
    }

    @Test("are run by hand between their slots, also while paused, but not beside a job that they must not overlap")
    func runNow() async throws {
        try await withSchedules { schedules in
            try await schedules.set(
                at: "12:00:00",
                "'s', every => '1h', kind => 'k', overlap => 'skip', payload => '{\"a\": 1}'"
            )
            try await schedules.query(at: "12:00:01", "select breakwater.pause_schedule('s', 'r')")
            let sql = "select job, is_new from breakwater.run_schedule('s', 'now', 'ann')"
            let first = try await schedules.query(at: "12:30:00.25", sql)[0]
            #expect(try first[1].bool())
            #expect(try await schedules.jobs() == ["2030-01-01T12:30:00.250000Z"])
            let second = try await schedules.query(at: "12:31:00", sql)[0]
            #expect(try !second[1].bool() && second[0].int64() == first[0].int64())
            #expect(try await schedules.database.count("job") == 1)
            #expect(try await schedules.value("next_at = '2030-01-01 13:00Z'") == "true")
            #expect(
                try await schedules.database.texts("select outcome || by_hand || job from breakwater.schedule_slot")
                    == ["enqueuedtrue\(try first[0].int64())"]
            )
            #expect(try await schedules.audit().filter { $0.hasPrefix("ann|schedule.run|s|now") }.count == 2)
        }
    }

    @Test("are removed with the record of their slots; their jobs stay")
    func remove() async throws {
        try await withSchedules { schedules in
            try await schedules.set(at: "12:00:00", "'s', every => '10s', kind => 'k'")
            try await schedules.run(at: "12:00:10")
            let sql = "select breakwater.remove_schedule('s', 'over', 'ann')"
            let removed = try await schedules.query(at: "12:00:11", sql)[0]
            #expect(try removed[0].bool())
            let removedAgain = try await schedules.query(at: "12:00:11", sql)[0]
            #expect(try !removedAgain[0].bool())
            #expect(try await schedules.database.count("schedule_slot") == 0)
            #expect(try await schedules.database.count("job") == 1)
            #expect(try await schedules.audit().last?.hasPrefix("ann|schedule.remove|s|over|{\"settings\": {") == true)
            // Set again, it begins after now.
            try await schedules.set(at: "12:00:11", "'s', every => '10s', kind => 'k'")
            try await schedules.run(at: "12:00:11")
            #expect(try await schedules.database.count("job") == 1)
        }
    }

    @Test(
        "with a wrong setting are refused with what is wrong and what to give",
        arguments: [
            ("'', every => '1s', kind => 'k'", "its name has 0 bytes", "1 to 200 bytes"),
            ("repeat('x', 201), every => '1s', kind => 'k'", "its name has 201 bytes", "1 to 200 bytes"),
            ("e'a\\nb', every => '1s', kind => 'k'", "its name \"a\\nb\" has a control character", ""),
            ("'s', kind => 'k'", "it has neither cron nor every", "cron => '0 3 * * *'"),
            ("'s', every => '1s', cron => '* * * * *', kind => 'k'", "it has both cron and every", "Give one of them"),
            ("'s', every => '0.5s', kind => 'k'", "every is 00:00:00.5", "a whole number of seconds"),
            ("'s', every => '1.5s', kind => 'k'", "every is 00:00:01.5", "a whole number of seconds"),
            ("'s', every => '-1s', kind => 'k'", "every is -00:00:01", "1 second to 3650 days"),
            ("'s', every => '1 month', kind => 'k'", "every is 1 mon", "use cron"),
            ("'s', every => '4000 days', kind => 'k'", "every is 4000 days", "3650 days"),
            ("'s', cron => '61 * * * *', kind => 'k'", "the minute \"61\" is not 0 to 59", ""),
            (
                "'s', cron => '* * * * *', time_zone => 'europe/berlin', kind => 'k'",
                "the time zone \"europe/berlin\" is not known", "Did you mean Europe/Berlin?"
            ),
            (
                "'s', cron => '* * * * *', time_zone => 'UTC+3', kind => 'k'", "the time zone \"UTC+3\" is not known",
                "such as Europe/Berlin"
            ),
            ("'s', every => '1s'", "the kind has 0 bytes", "such as 'email.send'"),
            ("'s', every => '1s', kind => 'k', queue => ''", "the queue's name has 0 bytes", ""),
            ("'s', every => '1s', kind => 'k', priority => 10", "priority 10 is not 0 to 9", ""),
            (
                "'s', every => '1s', kind => 'k', payload => '[]'", "its payload is not a JSON object",
                "the key schedule"
            ),
            ("'s', every => '1s', kind => 'k', payload => '{\"schedule\": 1}'", "its payload has the key schedule", ""),
            (
                "'s', every => '1s', kind => 'k', payload => jsonb_build_object('a', (select string_agg(md5(i::text), '') from generate_series(1, 60000) i))",
                "its payload has ", "1 MiB"
            ),
            ("'s', every => '1s', kind => 'k', unique_key => ''", "its unique_key has 0 bytes", "1 to 500"),
            ("'s', every => '1s', kind => 'k', missed => 'al'", "missed is \"al\"", "one, all or skip"),
            ("'s', every => '1s', kind => 'k', missed_after => '0'", "missed_after is 00:00:00", "1 second"),
            ("'s', every => '1s', kind => 'k', missed_limit => 1001", "missed_limit is 1001", "1 to 1000"),
            ("'s', every => '1s', kind => 'k', overlap => 'no'", "overlap is \"no\"", "allow or skip"),
        ]
    )
    func refusals(arguments: String, message: String, hint: String) async throws {
        try await withSchedules { schedules in
            let error = await postgresError {
                _ = try await schedules.database.query("select breakwater.set_schedule(\(arguments))")
            }
            #expect(error?.sqlState == "22023")
            #expect(error?.message.contains(message) == true, "\(error as Any)")
            #expect(hint.isEmpty || error?.hint?.contains(hint) == true, "\(error as Any)")
            let left = try await schedules.database.count("schedule")
            #expect(left == 0)
        }
    }

    @Test("that do not exist are refused by name, and pausing needs a reason")
    func unknown() async throws {
        try await withSchedules { schedules in
            for call in ["pause_schedule('x', 'r')", "resume_schedule('x')", "run_schedule('x')"] {
                let error = await postgresError { _ = try await schedules.database.query("select breakwater.\(call)") }
                #expect(error?.sqlState == "P0002" && error?.message == "there is no schedule 'x'", "\(call)")
            }
            try await schedules.set(at: "12:00:00", "'s', every => '1s', kind => 'k'")
            let error = await postgresError {
                _ = try await schedules.database.query("select breakwater.pause_schedule('s', '')")
            }
            #expect(error?.message == "pausing needs a reason")
        }
    }

    @Test("written by hand are checked too, and get their next slot")
    func byHand() async throws {
        try await withSchedules { schedules in
            try await schedules.query(
                at: "12:00:00",
                "insert into breakwater.schedule (name, cron, kind) values ('s', '0 3 * * *', 'k')"
            )
            #expect(try await schedules.value("next_at = '2030-01-02 03:00Z'") == "true")
            try await schedules.query(at: "12:00:00", "update breakwater.schedule set cron = '0 4 * * *'")
            #expect(try await schedules.value("next_at = '2030-01-02 04:00Z'") == "true")
            let error = await postgresError {
                _ = try await schedules.database.query("update breakwater.schedule set cron = 'daily'")
            }
            #expect(error?.message.contains("has 1 fields, not 5") == true)
        }
    }

    // MARK: - The worker

    @Test("run on time in a worker: it leads, wakes at each slot, and runs the job")
    func worker() async throws {
        try await withSchedules { schedules in
            let handler = HandlerRegistration(kind: "tick", plugin: ClosureHandler { _, _ in .succeeded() })
            try await schedules.database.withWorker(
                [handler],
                configure: { $0.schedules = [Schedule(name: "s", .every(.seconds(1)), kind: "tick")] },
                {
                    try await waitUntil("slots came") { try await schedules.value("enqueued >= 6") == "true" }
                    try await waitUntil("the jobs ran") { try await schedules.database.count("job") <= 1 }
                }
            )
            let late = try await schedules.database.number(
                """
                select (1000 * extract(epoch from percentile_disc(0.5) within group (order by at - slot)))::integer
                  from breakwater.schedule_slot
                """
            )
            #expect(late < 500, "the median lateness is \(late) ms; the leader's interval alone would make it 500")
            let gaps = try await schedules.database.number(
                """
                select count(*) from (select slot - lag(slot) over (order by slot) as gap from breakwater.schedule_slot) g
                 where g.gap <> interval '1 second'
                """
            )
            #expect(gaps == 0)
        }
    }

    @Test("say why they do not run: nobody leads, or nobody handles the kind")
    func why() async throws {
        try await withSchedules { schedules in
            try await schedules.set(at: "12:00:00", "'s', every => '10s', kind => 'k'")
            let idle = try await schedules.status(at: "12:00:01")
            #expect(idle.state == "active")
            #expect(idle.why.hasSuffix("; no worker that is alive handles 'k' in the queue 'default'"), "\(idle.why)")
            let overdue = try await schedules.status(at: "12:00:40")
            #expect(overdue.state == "overdue")
            #expect(
                overdue.why.hasSuffix("is due since 00:00:30: no worker is alive to run schedules"),
                "\(overdue.why)"
            )
            let worker = try await HandWorker(schedules.database)
            _ = try await worker.maintain()
            #expect(try await schedules.status(at: "12:00:40").why.hasSuffix("and the leader has not come to it"))
            try await schedules.run(at: "12:00:40")
            let active = try await schedules.status(at: "12:00:41")
            #expect(active.state == "active" && active.why.hasPrefix("runs next at "), "\(active.why)")
            #expect(!active.why.contains("no worker"))
        }
    }

    @Test("enqueue jobs of the new kind when theirs is renamed")
    func rename() async throws {
        try await withSchedules { schedules in
            try await schedules.set(at: "12:00:00", "'s', every => '10s', kind => 'k'")
            try await schedules.set(at: "12:00:00", "'t', every => '10s', kind => 'other'")
            try await schedules.database.query("select * from breakwater.rename_kind('k', 'l')")
            try await schedules.run(at: "12:00:10")
            let kinds = try await schedules.database.texts("select kind from breakwater.job order by kind")
            #expect(kinds == ["l", "other"])
        }
    }

    // MARK: - Roles

    @Test("are set and changed by breakwater_admin, set by breakwater_worker's configuration, and hidden from others")
    func roles() async throws {
        try await withSchedules { schedules in
            func state(_ connection: Connection, _ sql: String) async -> String? {
                await postgresError { _ = try await connection.query(sql) }?.sqlState
            }
            let calls = [
                "select breakwater.set_schedule('s', cron => '0 3 * * 5L', time_zone => 'Europe/Berlin', kind => 'k')",
                "select * from breakwater.schedule_status", "select * from breakwater.schedule",
                "select * from breakwater.schedule_slot", "select breakwater.run_schedule('s')",
                "select breakwater.pause_schedule('s', 'r')", "select breakwater.resume_schedule('s')",
                "select breakwater.remove_schedule('s')",
            ]
            let configured = "select breakwater.set_configured_schedules('w', '[]')"
            try await withLoginRole(schedules.database, memberOf: "breakwater_admin") { role in
                let connection = try await schedules.database.connect(as: role)
                for call in calls { #expect(await state(connection, call) == nil, "\(call)") }
                for refused in [
                    configured, "select breakwater.run_schedules(1)",
                    "update breakwater.schedule set next_at = now()", "delete from breakwater.schedule_slot",
                ] {
                    #expect(await state(connection, refused) == "42501", "\(refused)")
                }
                await connection.close()
            }
            for other in ["breakwater_enqueue", "breakwater_worker", "breakwater_monitor"] {
                try await withLoginRole(schedules.database, memberOf: other) { role in
                    let connection = try await schedules.database.connect(as: role)
                    for call in calls { #expect(await state(connection, call) == "42501", "\(other): \(call)") }
                    #expect(await state(connection, configured) == (other == "breakwater_worker" ? nil : "42501"))
                    await connection.close()
                }
            }
        }
    }
}
