import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import Breakwater

@Suite("The history of finished jobs", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct HistoryTests {
    private func keeping(_ history: JobHistory) -> (inout HandlerSettings) -> Void {
        { settings in settings.history = history }
    }

    private let week = JobHistory(keep: .seconds(7 * 86_400), key: ["customer"])

    private func insert(_ database: TestDatabase, _ customers: [String], kind: String = "k") async throws {
        for customer in customers {
            try await database.query(
                "insert into breakwater.job (kind, payload, traceparent) values ($1, jsonb_build_object('customer', $2::text), '00-t')",
                [.text(kind), .text(customer)]
            )
        }
    }

    private func lines(_ database: TestDatabase, _ columns: String) async throws -> [String] {
        try await database.texts("select concat_ws(' ', \(columns)) from breakwater.finished order by finished_at, id")
    }

    @Test("has each success with its attempts, times, worker, key and trace, and without the payload")
    func successes() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, settings: keeping(week))
            try await insert(database, ["a", "b"])
            try await worker.settle(try await worker.claim())
            #expect(
                try await lines(
                    database,
                    """
                    id, kind, queue, outcome, attempt, key, worker_name, worker, traceparent,
                    took >= '0', waited >= '0', enqueued_at <= finished_at, payload is null, result is null, errors is null
                    """
                )
                    == ["a", "b"].enumerated().map {
                        "\($0 + 1) k default succeeded 1 \($1) by hand \(worker.id) 00-t t t t t t t"
                    }
            )
            #expect(try await database.count("job") == 0)
        }
    }

    @Test("has no row of a kind without it, also in a batch with a kind that has it, and no partition before it is on")
    func off() async throws {
        try await withTestDatabase { database in
            let plain = try await HandWorker(database, ["plain"])
            try await insert(database, ["a"], kind: "plain")
            try await plain.settle(try await plain.claim())
            try await plain.maintain()
            let days = "select count(*) from pg_inherits where inhparent = 'breakwater.finished_job'::regclass"
            #expect(try await database.number(days) == 0)
            _ = try await HandWorker(database, ["k"], settings: keeping(week))
            let both = try await HandWorker(database, ["plain", "k"])
            try await database.query("update breakwater.handler set writes_history = kind = 'k'")
            try await insert(database, ["a", "b"], kind: "plain")
            try await insert(database, ["c"])
            try await both.settle(try await both.claim())
            #expect(try await lines(database, "kind, key") == ["k"])
            #expect(try await database.number(days) == 3)
        }
    }

    @Test("keeps the payload, the result and the failed runs, when they are kept")
    func everything() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) {
                $0.history = JobHistory(keep: .seconds(3600), payload: true)
                $0.order = KeyOrder(by: ["customer"])
                $0.keepResults = .seconds(60)
            }
            try await insert(database, ["a"])
            try await worker.settle(try await worker.claim(), .failed())
            let ending = FinishedRun.Ending(outcomeClass: .succeeded, result: "{\"sent\": true}")
            try await worker.settle(try await worker.claim(), ending)
            #expect(
                try await lines(database, "attempt, key, payload, result, errors -> 0 ->> 'name'")
                    == ["2 a {\"customer\": \"a\"} {\"sent\": true} broken"]
            )
        }
    }

    @Test("has a job's death, and its success after it was put back")
    func deaths() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, settings: keeping(week))
            try await insert(database, ["a", "b", "c"])
            let jobs = try await worker.claim(2)
            try await worker.settle([jobs[0]], .discarded)
            try await database.query("select breakwater.cancel(3)")
            #expect(
                try await lines(database, "id, outcome, reason, attempt, key, worker_name, errors -> -1 ->> 'name'")
                    == ["1 dead_letter discarded 1 a by hand bad", "3 dead_letter cancelled 0 c"]
            )
            try await database.query("select breakwater.redrive(1)")
            try await worker.settle([jobs[1]] + worker.claim())
            #expect(try await lines(database, "id, outcome").suffix(2) == ["1 succeeded", "2 succeeded"])
        }
    }

    @Test("has jobs that a fallback made succeed")
    func fallback() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) {
                $0.history = week
                $0.circuit.fallback = .succeed(result: "7")
            }
            try await insert(database, ["a"])
            try await database.query("select breakwater.open_circuit('k', 'a test')")
            try await database.query("update breakwater.circuit set is_checked = true")
            try await worker.maintain()
            #expect(try await lines(database, "id, outcome, reason, result, key") == ["1 succeeded fallback 7 a"])
        }
    }

    @Test("of a run that is stale has nothing")
    func stale() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, settings: keeping(week))
            try await insert(database, ["a", "b"])
            let jobs = try await worker.claim()
            try await worker.settle([jobs[0]], .snoozed(.seconds(600)))
            #expect(try await worker.settle(jobs).stale == [1])
            #expect(try await lines(database, "id") == ["2"])
        }
    }

    @Test("is written when no partition of the day exists, and by two sessions that add it at the same time")
    func missingDay() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, settings: keeping(week))
            try await database.query(
                """
                do $$ declare v_name text; begin
                    for v_name in select inhrelid::regclass from pg_inherits
                                   where inhparent = 'breakwater.finished_job'::regclass loop
                        execute 'drop table ' || v_name;
                    end loop;
                end $$
                """
            )
            try await insert(database, ["a", "b"])
            let jobs = try await worker.claim()
            let other = try await database.connect()
            try await other.script("begin; select breakwater.prepare_history()")
            async let settled = worker.settle([jobs[0]])
            try await waitUntil("the settle waits for the other session") {
                try await database.number(
                    "select count(*) from pg_locks where not granted and relation = 'breakwater.finished_job'::regclass"
                ) > 0
            }
            try await other.script("commit")
            #expect(try await settled.settled == 1)
            await other.close()
            try await worker.settle([jobs[1]])
            #expect(try await lines(database, "id") == ["1", "2"])
        }
    }

    @Test("is left out beyond its kind's keep, and its days are dropped beyond the longest keep")
    func keep() async throws {
        try await withTestDatabase { database in
            _ = try await HandWorker(database, ["short"], settings: keeping(JobHistory(keep: .seconds(3600))))
            _ = try await HandWorker(database, ["long"], settings: keeping(JobHistory(keep: .seconds(10 * 86_400))))
            for days in [0, 2, 12] {
                try await database.query(
                    "select breakwater.add_history_day((now() at time zone 'UTC')::date - \(days))"
                )
                try await database.query(
                    """
                    insert into breakwater.finished_job (
                        id, kind, queue, priority, outcome, attempt, enqueued_at, ready_at, finished_at)
                    select \(days), k, 'default', 5, 'succeeded', 1, now(), now(), now() - interval '\(days) days'
                      from unnest(array['short', 'long']) k
                    """
                )
            }
            #expect(try await lines(database, "kind, id").sorted() == ["long 0", "long 2", "short 0"])
            #expect(try await database.number("select breakwater.drop_history(10)") == 1)
            #expect(try await database.count("finished_job") == 4)
            // What was written before the history was turned off is kept as long as before.
            _ = try await HandWorker(database, ["short", "long"])
            #expect(try await lines(database, "kind, id").sorted() == ["long 0", "long 2", "short 0"])
            #expect(try await database.number("select breakwater.drop_history(10)") == 0)
        }
    }

    @Test("is not dropped while a session reads it, which holds no settle up; it is dropped when that session ends")
    func busyDrop() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, settings: keeping(week))
            try await database.query("select breakwater.add_history_day('2020-01-01')")
            let reader = try await database.connect()
            try await reader.script("begin; select count(*) from breakwater.finished_job")
            #expect(try await database.number("select breakwater.drop_history(1)") == 0)
            try await insert(database, ["a"])
            try await worker.settle(try await worker.claim())
            #expect(try await lines(database, "id") == ["1"])
            try await reader.script("rollback")
            await reader.close()
            #expect(try await database.number("select breakwater.drop_history(1)") == 1)
        }
    }

    @Test("has its days ahead, which the leader adds")
    func daysAhead() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, settings: keeping(week))
            let name = try await database.text(
                "select 'finished_job_' || to_char((now() at time zone 'UTC')::date + 2, 'YYYYMMDD')"
            )
            try await database.query("drop table breakwater.\(name)")
            #expect(try await worker.maintain().failures == [])
            #expect(try await database.text("select to_regclass('breakwater.\(name)')::text") == "breakwater.\(name)")
        }
    }

    @Test("finds the customer's jobs by key, by payload and by time, with dead letters, and page by page")
    func search() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) {
                $0.history = JobHistory(keep: .seconds(86_400), payload: true, key: ["customer"])
            }
            try await insert(database, ["17", "18", "17", "17"])
            try await insert(database, ["17"], kind: "other")
            try await worker.settle(try await worker.claim(2))
            try await worker.settle(try await worker.claim(1), .discarded)
            try await database.query("select breakwater.cancel(5)")
            func found(_ arguments: String) async throws -> [Int64] {
                try await database.numbers("select unnest(ids) from breakwater.find_ended(\(arguments))")
            }
            // A dead letter is found once, though the history has it too.
            #expect(
                try await found("null, null, null, null, null, null, null, null, null, 10, '1 min'") == [5, 3, 2, 1]
            )
            #expect(try await found("null, null, null, null, null, null, '17', null, null, 10, '1 min'") == [3, 1])
            let path = "'$.customer == \"17\"'"
            #expect(
                try await found("null, null, null, null, 'succeeded', \(path), null, null, null, 10, '1 min'") == [1]
            )
            #expect(
                try await found("null, null, null, null, null, \(path), null, null, null, 10, '1 min'") == [5, 3, 1]
            )
            #expect(try await found("null, null, 'k', null, null, null, null, null, null, 2, '1 min'") == [3, 2])
            let first = try await database.query(
                "select ends[1]::text, ids[1] from breakwater.find_ended(null, null, null, null, null, null, null, null, null, 1, '1 min')"
            )[0]
            let rest =
                "'\(try first[0].string())', \(try first[1].int64()), null, null, null, null, null, null, null, 9, '1 min'"
            #expect(try await found(rest) == [3, 2, 1])
            #expect(
                try await found("null, null, null, null, null, null, null, now() + interval '1 h', null, 9, '1 min'")
                    == []
            )
            #expect(
                try await found("null, null, null, null, null, null, null, null, now() - interval '1 h', 9, '1 min'")
                    == []
            )
            // The live job of the customer, by the same key.
            #expect(
                try await database.numbers(
                    "select unnest(ids) from breakwater.find_jobs(null, null, null, 'waiting', null, 9, '1 min', '17')"
                ) == [4]
            )
        }
    }
}
