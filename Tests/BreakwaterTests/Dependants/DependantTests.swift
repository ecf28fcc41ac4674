import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("Jobs that wait for others", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct DependantTests {
    @Test("run once all of these have succeeded, however often those were retried, and no earlier than their own time")
    func order() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            let (first, second) = (try await database.enqueue("'k'"), try await database.enqueue("'k'"))
            let last = try await database.enqueue("'k', after => array[\(first), \(second)]")
            let late = try await database.enqueue("'k', after => array[\(first)], run_at => now() + interval '1 hour'")
            #expect(try await database.state(of: last) == "dependent: waits for 2 of 2 jobs: \(first), \(second)")
            #expect(try await database.state(of: late) == "dependent: waits for job \(first)")
            let jobs = try await worker.claim()
            #expect(jobs.map(\.id) == [first, second])
            try await worker.settle([jobs[0]])
            try await worker.settle([jobs[1]], .failed())
            #expect(try await database.state(of: last) == "dependent: waits for 1 of 2 jobs: \(second)")
            #expect(
                try await database.text("select state from breakwater.job_status where id = \(late)") == "scheduled"
            )
            let again = try await worker.claim()
            #expect(again.map(\.id) == [second])
            try await worker.settle(again)
            #expect(try await worker.claim().map(\.id) == [last])
        }
    }

    @Test("run at once if all of these have ended already")
    func alreadyEnded() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            let first = try await database.enqueue("'k'")
            try await worker.settle(try await worker.claim())
            let last = try await database.enqueue("'k', after => array[\(first), \(first)]")
            try await worker.maintain()
            #expect(try await worker.claim().map(\.id) == [last])
        }
    }

    @Test(
        "do with a dead letter among these as they say, also if it had died before",
        arguments: ["hold", "cancel", "run"],
        [false, true]
    )
    func dead(onDead: String, isDeadBefore: Bool) async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            let first = try await database.enqueue("'k'")
            if isDeadBefore { try await database.query("select breakwater.cancel(\(first))") }
            let last = try await database.enqueue("'k', after => array[\(first)], on_dead => '\(onDead)'")
            if !isDeadBefore { try await database.query("select breakwater.cancel(\(first))") }
            try await worker.maintain()
            switch onDead {
            case "hold":
                #expect(try await database.state(of: last)?.contains("job \(first), which is a dead letter") == true)
                #expect(try await worker.claim().isEmpty)
                try await database.query("select breakwater.redrive(\(first))")
                #expect(try await database.state(of: last) == "dependent: waits for job \(first)")
                try await worker.settle(try await worker.claim())
                #expect(try await worker.claim().map(\.id) == [last])
            case "cancel":
                let dead =
                    "select reason || ': ' || (errors -> 0 ->> 'message') from breakwater.dead_letter where id = \(last)"
                #expect(
                    try await database.text(dead) == "cancelled: job \(first), which it waited for, is a dead letter"
                )
            default:
                #expect(try await worker.claim().map(\.id) == [last])
            }
        }
    }

    @Test("are cancelled when a dead letter among these is purged, one by one and in bulk", arguments: [false, true])
    func purged(inBulk: Bool) async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            let first = try await database.enqueue("'k'")
            let last = try await database.enqueue("'k', after => array[\(first)]")
            try await database.query("select breakwater.cancel(\(first))")
            try await database.query(inBulk ? "select breakwater.purge('k')" : "select breakwater.purge(\(first))")
            try await worker.maintain()
            let dead = "select errors -> 0 ->> 'message' from breakwater.dead_letter where id = \(last)"
            #expect(try await database.text(dead) == "job \(first), which it waited for, was purged or deleted")
        }
    }

    @Test("follow a dead letter that gets another id, in bulk too", arguments: [false, true])
    func renumbered(inBulk: Bool) async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            let first = try await database.enqueue("'k'")
            let last = try await database.enqueue("'k', after => array[\(first)]")
            try await database.query("select breakwater.cancel(\(first))")
            // Somebody restored a job of the same number.
            try await database.query(
                "insert into breakwater.job (id, kind) overriding system value values (\(first), 'other')"
            )
            try await database.query(inBulk ? "select breakwater.redrive('k')" : "select breakwater.redrive(\(first))")
            let jobs = try await worker.claim()
            #expect(jobs.count == 1 && jobs[0].id != first)
            #expect(try await database.state(of: last) == "dependent: waits for job \(jobs[0].id)")
            try await worker.settle(jobs)
            #expect(try await worker.claim().map(\.id) == [last])
        }
    }

    @Test("are cancelled when a row among these is deleted by hand")
    func deleted() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            let first = try await database.enqueue("'k'")
            let last = try await database.enqueue("'k', after => array[\(first)]")
            try await worker.maintain()
            try await database.query("delete from breakwater.job where id = \(first)")
            try await database.query("select breakwater.find_deleted_dependencies()")
            try await worker.maintain()
            #expect(
                try await database.text("select reason from breakwater.dead_letter where id = \(last)") == "cancelled"
            )
        }
    }

    @Test("do not wait for ever for a job that ended before they were committed", arguments: ["succeeded", "dead"])
    func endsBeforeCommit(how: String) async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            let first = try await database.enqueue("'k'")
            let jobs = try await worker.claim()
            let other = try await database.connect()
            _ = try await other.query("begin")
            _ = try await other.query(
                "select breakwater.enqueue('k', after => array[$1], on_dead => 'run')",
                [.int8(first)]
            )
            try await worker.settle(jobs, how == "dead" ? .discarded : .succeeded)
            _ = try await other.query("commit")
            #expect(try await worker.claim().isEmpty)
            try await worker.maintain()
            #expect(try await worker.claim().count == 1)
            #expect(
                try await database.texts("select state from breakwater.dependency") == [how]
            )
        }
    }

    @Test("do not wait for ever for a job whose end was not committed when they were")
    func endsDuringCommit() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            let first = try await database.enqueue("'k'")
            let jobs = try await worker.claim()
            let (enqueuer, settler) = (try await database.connect(), try await database.connect())
            _ = try await enqueuer.query("begin")
            _ = try await enqueuer.query("select breakwater.enqueue('k', after => array[$1])", [.int8(first)])
            // The settle looks for dependants before there are any, and is committed after maintenance has looked.
            _ = try await settler.query("begin")
            try await worker.call(
                Settle(worker: worker.id, runs: jobs.map { FinishedRun($0, .succeeded) }, claims: []),
                on: settler
            )
            _ = try await enqueuer.query("commit")
            try await worker.maintain()
            _ = try await settler.query("commit")
            try await worker.maintain()
            #expect(try await worker.claim().count == 1)
        }
    }

    @Test("are released once when the last two of these end at the same moment")
    func sameMoment() async throws {
        try await withTestDatabase { database in
            let (one, two) = (try await HandWorker(database), try await HandWorker(database))
            let ids = [try await database.enqueue("'k'"), try await database.enqueue("'k'")]
            let last = try await database.enqueue("'k', after => array[\(ids[0]), \(ids[1])]")
            // It looks at the new job once.
            try await one.maintain()
            #expect(try await database.count("dependant_to_check") == 0)
            let (first, second) = (try await one.claim(1), try await two.claim(1))
            try await one.query("begin")
            try await two.query("begin")
            try await one.settle(first)
            try await two.settle(second)
            try await one.query("commit")
            try await two.query("commit")
            try await one.maintain()
            #expect(try await one.claim().map(\.id) == [last])
            try await two.maintain()
            #expect(try await two.claim().isEmpty)
        }
    }

    @Test("that are made to run by hand do not run again when these have ended")
    func runNow() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            let first = try await database.enqueue("'k', priority => 9")
            let last = try await database.enqueue("'k', after => array[\(first)]")
            #expect(try await database.text("select breakwater.run_now(\(last))::text") == "true")
            let jobs = try await worker.claim()
            #expect(jobs.map(\.id) == [last, first])
            try await worker.settle([jobs[0]])
            try await worker.settle([jobs[1]])
            try await worker.maintain()
            #expect(try await database.count("job") == 0)
        }
    }

    @Test("keep waiting when their time is edited, and when jobs are made ready in bulk")
    func edited() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            let first = try await database.enqueue("'k'")
            let last = try await database.enqueue("'k', after => array[\(first)]")
            try await database.query("select breakwater.edit_job(\(last), run_at => now() + interval '1 hour')")
            #expect(try await database.number("select breakwater.run_jobs_now(kind => 'k')") == 0)
            #expect(try await database.state(of: last) == "dependent: waits for job \(first)")
            try await worker.settle(try await worker.claim())
            #expect(
                try await database.text("select state from breakwater.job_status where id = \(last)") == "scheduled"
            )
        }
    }

    @Test("that are cancelled are awaited no longer, and neither are those behind them")
    func cancelled() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            var ids = [try await database.enqueue("'k'")]
            for _ in 1...200 {
                ids.append(try await database.enqueue("'k', after => array[\(ids.last!)], on_dead => 'cancel'"))
            }
            try await database.query("select breakwater.cancel(\(ids[0]))")
            try await waitUntil("all are cancelled") {
                try await worker.maintain()
                return try await database.count("job") == 0
            }
            #expect(
                try await database.number("select count(*) from breakwater.dead_letter where reason = 'cancelled'")
                    == 201
            )
        }
    }

    @Test("that are very many for one job are released by maintenance, and the settle is not held up")
    func many() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            let first = try await database.enqueue("'k'")
            try await database.query(
                "select breakwater.enqueue_many('k', array_fill('{}'::jsonb, array[5000]), after => array[$1])",
                [.int8(first)]
            )
            try await worker.settle(try await worker.claim())
            #expect(try await database.count("ended_dependency") == 1)
            try await waitUntil("all are released") {
                try await worker.maintain()
                return try await database.number("select count(*) from breakwater.job where run_at is null") == 5000
            }
            try await worker.maintain()
            #expect(try await database.count("ended_dependency") == 0)
        }
    }

    @Test("hold up no settle while maintenance releases them")
    func maintenance() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            let first = try await database.enqueue("'k'")
            let last = try await database.enqueue("'k', after => array[\(first)]")
            let jobs = try await worker.claim()
            let leader = try await database.connect()
            _ = try await leader.query("begin")
            _ = try await leader.query("select breakwater.do_chore('check_dependants')")
            #expect(try await worker.settle(jobs).stale == [])
            _ = try await leader.query("commit")
            try await worker.maintain()
            #expect(try await worker.claim().map(\.id) == [last])
        }
    }

    @Test("are left alone by a settle whose job this worker does not hold any more")
    func stale() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            let first = try await database.enqueue("'k'")
            let last = try await database.enqueue("'k', after => array[\(first)]")
            let jobs = try await worker.claim()
            try await database.query("select breakwater.release_claims($1, '{}', null)", [.int8(worker.id)])
            #expect(try await worker.settle(jobs).stale == [first])
            #expect(try await database.state(of: last) == "dependent: waits for job \(first)")
        }
    }

    @Test("go on waiting after a test shot that no worker took")
    func testShot() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            let first = try await database.enqueue("'other'")
            let last = try await database.enqueue("'k', after => array[\(first)]")
            try await database.query("select breakwater.run_through(\(last))")
            try await database.query("update breakwater.test_shot set at = at - interval '2 minutes'")
            try await worker.maintain()
            #expect(try await worker.claim().isEmpty)
            #expect(try await database.state(of: last) == "dependent: waits for job \(first)")
        }
    }

    @Test("are counted as dependent, and not as scheduled")
    func counted() async throws {
        try await withTestDatabase { database in
            let first = try await database.enqueue("'k'")
            let last = try await database.enqueue("'k', after => array[\(first)]")
            let depth = "select concat_ws(' ', ready, scheduled, retrying, parked, dependent) from breakwater."
            #expect(try await database.texts(depth + "depth") == ["1 0 0 0 1"])
            #expect(try await database.texts(depth + "backlog()") == ["1 0 0 0 1"])
            for (state, ids) in [("dependent", [last]), ("scheduled", []), ("waiting", [last, first])] {
                #expect(
                    try await database.numbers(
                        "select unnest(ids) from breakwater.find_jobs(null, null, null, $1, null, 10, '10 seconds')",
                        [.text(state)]
                    ) == ids
                )
            }
            let sampled = "select g ->> 'jobs' from jsonb_array_elements(breakwater.sample_jobs() -> 'jobs') g"
            #expect(try await database.texts(sampled + " where g ->> 'state' = 'dependent'") == ["1"])
        }
    }

    @Test("are forgotten a day after they were released")
    func forgotten() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            let first = try await database.enqueue("'k'")
            try await database.enqueue("'k', after => array[\(first)]")
            try await worker.settle(try await worker.claim())
            try await database.query("select breakwater.forget_dependants(1000)")
            #expect(try await database.count("dependency") == 1)
            try await database.query("update breakwater.dependant set released_at = now() - interval '25 hours'")
            try await database.query("select breakwater.forget_dependants(1000)")
            #expect(try await database.count("dependency") == 0)
            #expect(try await database.count("dependant") == 0)
        }
    }

    @Test(
        "are refused with clear words if they cannot be",
        arguments: [
            ("'k', after => array[99]", "there was never a job 99"),
            ("'k', after => array[-1]", "there was never a job -1"),
            ("'k', after => array[null]::bigint[]", "an id of the jobs to wait for is NULL"),
            ("'k', after => array[1], on_dead => 'die'", "on_dead is 'die', not hold, cancel or run"),
            ("'k', after => array[1], on_dead => null", "on_dead is NULL, not hold, cancel or run"),
            ("'k', batch => 1", "there is no batch 1"),
        ]
    )
    func refused(call: String, message: String) async throws {
        try await withTestDatabase { database in
            try await database.enqueue("'k'")
            let error = await #expect(throws: PostgresError.self) { try await database.enqueue(call) }
            #expect(error?.message == message)
            #expect(try await database.count("job") == 1)
        }
    }

    @Test("cost a job nothing that has no dependants, and one with a key that is taken is not changed")
    func uniqueKey() async throws {
        try await withTestDatabase { database in
            let first = try await database.enqueue("'k', unique_key => 'u'")
            let same = try await database.enqueue("'k', unique_key => 'u', after => array[\(first)]")
            #expect(same == first)
            #expect(try await database.count("dependency") == 0)
        }
    }
}

extension TestDatabase {
    /// Calls `breakwater.enqueue` with these arguments, and returns the job's id.
    @discardableResult
    func enqueue(_ arguments: String) async throws -> Int64 {
        Int64(try await number("select breakwater.enqueue(\(arguments))"))
    }

    /// A job's state, with why it is not running.
    func state(of job: Int64) async throws -> String? {
        try await texts("select state || ': ' || why from breakwater.job_status where id = \(job)").first
    }
}
