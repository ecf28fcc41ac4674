import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("Slots of schedules", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct SlotTests {
    @Test("each gets one job, with the slot, the name and the slot before in its payload")
    func payload() async throws {
        try await withSchedules { schedules in
            try await schedules.set(
                at: "12:00:00",
                "'s', every => '10s', kind => 'k', payload => '{\"a\": 1}', queue => 'q', priority => 2"
            )
            #expect(try await schedules.run(at: "12:00:09.9") == 0)
            #expect(try await schedules.run(at: "12:00:10") == 1)
            #expect(try await schedules.run(at: "12:00:10") == 0)
            #expect(try await schedules.run(at: "12:00:30.5") == 2)
            let jobs = try await schedules.database.texts(
                "select concat_ws(' ', queue, priority, payload) from breakwater.job order by id"
            )
            func job(_ slot: String, _ previous: String) -> String {
                "q 2 {\"a\": 1, \"schedule\": {\"name\": \"s\", \"slot\": \"\(slot)\", \"previous\": \(previous)}}"
            }
            #expect(
                jobs == [
                    job("2030-01-01T12:00:10Z", "null"), job("2030-01-01T12:00:20Z", "\"2030-01-01T12:00:10Z\""),
                    job("2030-01-01T12:00:30Z", "\"2030-01-01T12:00:20Z\""),
                ]
            )
            #expect(try await schedules.value("enqueued") == "3")
            #expect(
                try await schedules.value("last_slot = '2030-01-01 12:00:30Z' and last_at = '2030-01-01 12:00:30.5Z'")
                    == "true"
            )
            #expect(
                try await schedules.database.number(
                    """
                    select count(*) from breakwater.schedule_slot l join breakwater.job j on j.id = l.job
                     where l.schedule = 's' and l.outcome = 'enqueued' and l.slot = (j.payload #>> '{schedule,slot}')::timestamptz
                    """
                ) == 3
            )
        }
    }

    @Test("come once, however many sessions run them at once")
    func concurrent() async throws {
        try await withSchedules { schedules in
            for name in 0..<5 {
                try await schedules.set(
                    at: "12:00:00",
                    "'s\(name)', every => '1s', kind => 'k\(name)', missed => 'all', missed_limit => 1000"
                )
            }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<8 {
                    group.addTask {
                        let connection = try await schedules.database.connect()
                        for second in 1...50 {
                            _ = try await schedules.run(at: "12:00:\(second < 10 ? "0" : "")\(second)", on: connection)
                        }
                        await connection.close()
                    }
                }
                try await group.waitForAll()
            }
            for name in 0..<5 {
                let jobs = try await schedules.jobs("k\(name)")
                #expect(jobs.count == 50)
                #expect(Set(jobs).count == 50)
            }
        }
    }

    @Test("a leader of an earlier term cannot advance a schedule")
    func fence() async throws {
        try await withSchedules { schedules in
            let worker = try await HandWorker(schedules.database)
            _ = try await worker.maintain()
            try await schedules.set(at: "12:00:00", "'s', every => '1s', kind => 'k'")
            try await schedules.database.query("update breakwater.leader set term = 7")
            try await schedules.run(at: "12:00:01")
            #expect(try await schedules.value("term") == "7")
            try await schedules.database.query("update breakwater.leader set term = 6")
            #expect(try await schedules.run(at: "12:00:03") == 0)
            #expect(try await schedules.jobs() == ["2030-01-01T12:00:01Z"])
            try await schedules.database.query("update breakwater.leader set term = 8")
            #expect(try await schedules.run(at: "12:00:03") == 2)
        }
    }

    @Test("the leader is told when the next one comes, also if no job waits for its time")
    func nextDue() async throws {
        try await withSchedules { schedules in
            let worker = try await HandWorker(schedules.database)
            #expect(try await worker.maintain().nextDue == nil)
            try await schedules.database.query("select breakwater.set_schedule('s', every => '1000 days', kind => 'k')")
            let days = try await schedules.database.number(
                "select extract(day from next_at - now())::integer from breakwater.schedule"
            )
            let due = try #require(try await worker.maintain().nextDue)
            #expect(Int(due / .seconds(86_400)) == days)
            try await schedules.database.query(
                "insert into breakwater.job (kind, run_at) values ('k', now() + interval '30 s')"
            )
            let sooner = try #require(try await worker.maintain().nextDue)
            #expect(sooner > .seconds(5) && sooner <= .seconds(30))
        }
    }

    @Test("a slot on record gets no second job, even if a user sets next_at back")
    func setBack() async throws {
        try await withSchedules { schedules in
            try await schedules.set(at: "12:00:00", "'s', every => '10s', kind => 'k'")
            try await schedules.run(at: "12:00:30")
            try await schedules.database.query("update breakwater.schedule set next_at = '2030-01-01 12:00:10Z'")
            try await schedules.run(at: "12:00:40")
            #expect(try await schedules.jobs() == [10, 20, 30, 40].map { "2030-01-01T12:00:\($0)Z" })
        }
    }

    // MARK: - Missed slots

    @Test("missed ones get one job together by default: that of the last of them, or of the next that is on time")
    func missedOne() async throws {
        try await withSchedules { schedules in
            try await schedules.set(at: "12:00:00", "'s', cron => '*/10 * * * *', kind => 'k'")
            try await schedules.run(at: "12:10:00")
            // 12:20, 12:30 and 12:40 are later than a minute.
            try await schedules.run(at: "12:49:00")
            #expect(try await schedules.jobs() == ["2030-01-01T12:10:00Z", "2030-01-01T12:40:00Z"])
            #expect(try await schedules.value("missed_slots") == "2")
            #expect(
                try await schedules.database.text(
                    "select payload #>> '{schedule,previous}' from breakwater.job order by id desc limit 1"
                ) == "2030-01-01T12:10:00Z"
            )
            // 12:50 and 13:00 are missed, and 13:10 is not.
            try await schedules.run(at: "13:10:59")
            #expect(try await schedules.jobs().last == "2030-01-01T13:10:00Z")
            #expect(try await schedules.jobs().count == 3)
            #expect(
                try await schedules.database.texts(
                    "select format('%s %s', to_char(slot at time zone 'UTC', 'HH24:MI'), slots) from breakwater.schedule_slot where outcome = 'missed' order by slot"
                ) == ["12:30 2", "13:00 2"]
            )
        }
    }

    @Test("missed ones get a job each if so set, the last of them up to a limit; slots on time do not count")
    func missedAll() async throws {
        try await withSchedules { schedules in
            try await schedules.set(
                at: "12:00:00",
                "'s', cron => '* * * * *', kind => 'k', missed => 'all', missed_limit => 3"
            )
            try await schedules.set(
                at: "12:00:00",
                "'i', every => '1m', kind => 'i', missed => 'all', missed_limit => 3"
            )
            try await schedules.run(at: "13:00:30")
            let expected = ["12:57", "12:58", "12:59", "13:00"].map { "2030-01-01T\($0):00Z" }
            #expect(try await schedules.jobs("k") == expected)
            #expect(try await schedules.jobs("i") == expected)
            for name in ["s", "i"] { #expect(try await schedules.value("missed_slots", of: name) == "56") }
        }
    }

    @Test("missed ones get no job if so set")
    func missedSkip() async throws {
        try await withSchedules { schedules in
            try await schedules.set(
                at: "12:00:00",
                "'s', cron => '0 * * * *', kind => 'k', missed => 'skip', missed_after => '5m'"
            )
            try await schedules.run(at: "15:05:01")
            #expect(try await schedules.jobs() == [])
            #expect(try await schedules.value("missed_slots") == "3")
            try await schedules.run(at: "16:05:00")
            #expect(try await schedules.jobs() == ["2030-01-01T16:00:00Z"])
        }
    }

    @Test("an absence of years is dealt with in a moment, and counts up to a thousand")
    func yearsAway() async throws {
        try await withSchedules { schedules in
            for (name, missed) in [("one", "one"), ("all", "all"), ("skip", "skip")] {
                try await schedules.set(
                    at: "12:00:00",
                    "'\(name)', cron => '* * * * *', time_zone => 'Europe/Berlin', kind => '\(name)', missed => '\(missed)', missed_limit => 1000"
                )
            }
            let began = ContinuousClock.now
            #expect(try await schedules.run(at: "2045-06-01 00:00:30Z") == 1000)
            #expect(try await schedules.run(at: "2045-06-01 00:00:30Z") == 3)
            #expect(ContinuousClock.now - began < .seconds(20))
            #expect(try await schedules.jobs("one") == ["2045-06-01T00:00:00Z"])
            #expect(try await schedules.jobs("skip") == ["2045-06-01T00:00:00Z"])
            #expect(try await schedules.jobs("all").count == 1001)
            #expect(try await schedules.value("missed_slots", of: "one") == "1000")
        }
    }

    // MARK: - Overlaps

    @Test("if overlaps are skipped, slots get no job until the last one has ended, also behind an open circuit")
    func overlapSkip() async throws {
        try await withSchedules { schedules in
            let worker = try await HandWorker(schedules.database)
            try await schedules.set(at: "12:00:00", "'s', every => '10s', kind => 'k', overlap => 'skip'")
            try await schedules.database.query("select breakwater.open_circuit('k', 'a test')")
            for time in ["12:00:10", "12:00:20", "12:00:35"] { try await schedules.run(at: time) }
            #expect(try await schedules.jobs() == ["2030-01-01T12:00:10Z"])
            #expect(try await schedules.value("enqueued || ' ' || skipped") == "1 2")
            let job = try await schedules.database.number("select id from breakwater.job")
            let (state, why) = try await schedules.status(at: "12:00:36")
            #expect(state == "waiting")
            #expect(
                why.hasPrefix("job \(job) has not ended, so slots get no job until then; it is circuit_open: "),
                "\(why)"
            )
            try await schedules.database.query("select breakwater.reset_circuit('k', 'a test')")
            try await worker.runOne(.plainSuccess)
            #expect(try await schedules.run(at: "12:00:40") == 1)
            #expect(try await schedules.jobs() == ["2030-01-01T12:00:40Z"])
            #expect(
                try await schedules.database.texts(
                    "select format('%s %s', outcome, job) from breakwater.schedule_slot order by slot"
                )
                    == [
                        "enqueued \(job)", "skipped \(job)", "skipped \(job)",
                        "enqueued \(try await schedules.database.number("select id from breakwater.job"))",
                    ]
            )
        }
    }

    @Test("if overlaps are allowed, each slot gets a job behind an open circuit too")
    func overlapAllow() async throws {
        try await withSchedules { schedules in
            _ = try await HandWorker(schedules.database)
            try await schedules.set(at: "12:00:00", "'s', every => '10s', kind => 'k'")
            try await schedules.database.query("select breakwater.open_circuit('k', 'a test')")
            try await schedules.run(at: "12:00:35")
            #expect(try await schedules.jobs().count == 3)
        }
    }

    @Test("a unique key is that of the jobs; a job that has it already stands for the slot")
    func uniqueKey() async throws {
        try await withSchedules { schedules in
            try await schedules.set(at: "12:00:00", "'s', every => '10s', kind => 'k', unique_key => 'u'")
            try await schedules.database.query("select breakwater.enqueue('k', unique_key => 'u')")
            try await schedules.run(at: "12:00:10")
            #expect(try await schedules.database.count("job") == 1)
            #expect(try await schedules.value("skipped") == "1")
        }
    }

    // MARK: - Failures

    @Test("one schedule whose jobs are refused does not stop the others, says why, and is tried again")
    func failing() async throws {
        try await withSchedules { schedules in
            try await schedules.database.connection.script(
                """
                create function public.refuse() returns trigger language plpgsql as
                $$ begin raise exception 'no jobs of % today', new.kind; end $$;
                create trigger refuse before insert on breakwater.job for each row when (new.kind = 'bad')
                execute function public.refuse();
                """
            )
            try await schedules.set(at: "12:00:00", "'a bad one', every => '10s', kind => 'bad'")
            try await schedules.set(at: "12:00:00", "'s', every => '10s', kind => 'k'")
            #expect(try await schedules.run(at: "12:00:10") == 1)
            #expect(try await schedules.jobs() == ["2030-01-01T12:00:10Z"])
            let (state, why) = try await schedules.status(at: "12:00:11", of: "a bad one")
            #expect(state == "failing")
            #expect(why.contains("no jobs of bad today (SQLSTATE P0001)"), "\(why)")
            let untilNext = try await schedules.query(at: "12:00:11", "select breakwater.seconds_to_next_slot()")[0]
            #expect(try untilNext[0].double() > 8)
            try await schedules.database.query("drop trigger refuse on breakwater.job")
            try await schedules.run(at: "12:00:19")
            #expect(try await schedules.jobs("bad") == [], "it is tried again after ten seconds")
            try await schedules.run(at: "12:00:21")
            #expect(try await schedules.jobs("bad") == ["2030-01-01T12:00:10Z", "2030-01-01T12:00:20Z"])
            #expect(try await schedules.status(at: "12:00:21", of: "a bad one").state == "active")
        }
    }

    @Test("a schedule that another session has locked waits for the next round, and the others do not wait for it")
    func locked() async throws {
        try await withSchedules { schedules in
            try await schedules.set(at: "12:00:00", "'locked', every => '10s', kind => 'l'")
            try await schedules.set(at: "12:00:00", "'s', every => '10s', kind => 'k'")
            let other = try await schedules.database.connectDirectly()
            _ = try await other.query("begin")
            _ = try await other.query("select from breakwater.schedule where name = 'locked' for update")
            #expect(try await schedules.run(at: "12:00:10") == 1)
            #expect(try await schedules.jobs("k").count == 1)
            _ = try await other.query("rollback")
            await other.close()
            #expect(try await schedules.run(at: "12:00:10") == 1)
            #expect(try await schedules.jobs("l").count == 1)
        }
    }

    @Test("a lock on the table of jobs stops the round after one wait, and not after one for each schedule")
    func lockedTable() async throws {
        try await withSchedules { schedules in
            for number in 0..<5 { try await schedules.set(at: "12:00:00", "'s\(number)', every => '10s', kind => 'k'") }
            let other = try await schedules.database.connect()
            _ = try await other.query("begin")
            _ = try await other.query("lock table breakwater.job in access exclusive mode")
            try await schedules.database.query("set lock_timeout = '500ms'")
            let began = ContinuousClock.now
            #expect(try await schedules.run(at: "12:00:10") == 0)
            #expect(ContinuousClock.now - began < .seconds(1.4))
            _ = try await other.query("rollback")
            #expect(try await schedules.run(at: "12:00:10") == 4)
            #expect(try await schedules.run(at: "12:00:21") > 0)
            #expect(
                try await schedules.database.number("select count(*) from breakwater.schedule where error is not null")
                    == 0
            )
            await other.close()
        }
    }

    @Test("missed ones of a very long interval are dealt with, although the limit reaches before all time")
    func longInterval() async throws {
        try await withSchedules { schedules in
            try await schedules.set(
                at: "12:00:00",
                "'s', every => '3650 days', kind => 'k', missed => 'all', missed_limit => 1000"
            )
            try await schedules.run(at: "2065-01-01 00:00Z")
            #expect(try await schedules.value("error is null and enqueued > 0") == "true")
        }
    }

    @Test("about a hundred are kept on record for each schedule")
    func history() async throws {
        try await withSchedules { schedules in
            for name in ["s", "t"] {
                try await schedules.set(
                    at: "12:00:00",
                    "'\(name)', every => '1s', kind => 'k', missed => 'all', missed_limit => 1000"
                )
            }
            for minute in 1...10 { try await schedules.run(at: "12:\(minute < 10 ? "0" : "")\(minute):00") }
            #expect(try await schedules.jobs().count == 1200)
            let kept = try await schedules.database.numbers(
                "select count(*) from breakwater.schedule_slot group by schedule"
            )
            #expect(kept.allSatisfy { (100...101).contains($0) } && kept.count == 2, "\(kept)")
        }
    }
}
