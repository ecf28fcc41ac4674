import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import Breakwater

@Suite("Waiting jobs are changed", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct EditJobTests {
    private func status(_ database: TestDatabase, _ id: Int, _ columns: String) async throws -> String {
        try await database.text("select concat_ws(' ', \(columns)) from breakwater.job where id = \(id)")
    }

    @Test("in their payload, time and attempts; what is not given stays, and the audit log says what changed")
    func edit() async throws {
        try await withTestDatabase { database in
            try await database.query(
                "select breakwater.enqueue('k', '{\"n\": 1}', run_at => '2999-01-01Z', max_attempts => 3)"
            )
            let edited = try await database.query(
                "select breakwater.edit_job(1, payload => '{\"n\": 2}', reason => 'typo')"
            )
            #expect(try edited[0][0].bool())
            #expect(
                try await status(database, 1, "payload ->> 'n', run_at = '2999-01-01Z', max_attempts") == "2 t 3"
            )
            try await database.query("select breakwater.edit_job(1, run_at => '2998-01-01Z', max_attempts => 9)")
            #expect(try await status(database, 1, "payload ->> 'n', run_at = '2998-01-01Z', max_attempts") == "2 t 9")
            try await database.query("select breakwater.edit_job(1, run_at => '2000-01-01Z')")
            #expect(try await status(database, 1, "run_at is null") == "t")
            let entry = try await database.query(
                "select action, reason, details::text from breakwater.audit order by id"
            )
            #expect(entry.count == 3)
            #expect(try entry[0][0].string() == "job.edit" && entry[0][1].string() == "typo")
            #expect(try entry[0][2].string().contains("\"payload\": \"changed\""))
            #expect(try entry[1][2].string().contains("\"old_max_attempts\": 3"))
        }
    }

    @Test(
        "only to values with which a job can run",
        arguments: [
            ("null", "nothing says what to change of job 1"),
            ("run_at => 'infinity'", "no time at which a job could run"),
            ("run_at => '-infinity'", "no time at which a job could run"),
            ("max_attempts => 0", "max_attempts 0 is not at least 1"),
        ]
    )
    func refused(change: String, message: String) async throws {
        try await withTestDatabase { database in
            try await database.insert()
            let error = await postgresError { try await database.query("select breakwater.edit_job(1, \(change))") }
            #expect(error?.message.contains(message) == true, "\(error as Any)")
            #expect(error?.sqlState == "22023")
        }
    }

    @Test("not while they run, and not when they do not exist")
    func running() async throws {
        try await withTestDatabase { database in
            try await database.insert()
            let worker = try await HandWorker(database)
            let jobs = try await worker.claim()
            for id in [1, 99] {
                #expect(try await !database.query("select breakwater.edit_job(\(id), payload => '1')")[0][0].bool())
            }
            try await worker.settle(jobs)
        }
    }

    @Test("and are judged anew: with another customer, a job that waits for its order runs, and its key is free")
    func ordered() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { $0.order = KeyOrder(by: ["c"]) }
            try await database.query(
                "insert into breakwater.job (kind, payload) select 'k', '{\"c\": \"a\"}' from generate_series(1, 3)"
            )
            let first = try await worker.claim()
            #expect(first.map(\.id) == [1])
            #expect(try await status(database, 2, "rule is not null, run_at") == "t infinity")
            try await database.query("select breakwater.edit_job(2, payload => '{\"c\": \"b\"}')")
            #expect(try await worker.claim().map(\.id) == [2])
            // The third waits for the first only.
            try await worker.settle(first)
            #expect(try await worker.claim().map(\.id) == [3])
        }
    }

    @Test("and leave the open circuit of their key")
    func parked() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { $0.circuit.key = .path(["host"]) }
            try await database.query("insert into breakwater.job (kind, payload) values ('k', '{\"host\": \"bad\"}')")
            try await database.query(
                "insert into breakwater.circuit (kind, key, key_path) values ('k', 'bad', '{host}')"
            )
            try await database.query("select breakwater.open_circuit('k', 'a test', key => 'bad')")
            #expect(try await worker.claim().isEmpty)
            #expect(try await status(database, 1, "parked") == "bad")
            try await database.query("select breakwater.edit_job(1, payload => '{\"host\": \"good\"}')")
            #expect(try await worker.claim().map(\.id) == [1])
        }
    }

    @Test("to run now, and SQL says when they still wait, and for what")
    func stillWaits() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { $0.circuit.key = .path(["host"]) }
            try await database.query(
                "insert into breakwater.circuit (kind, key, key_path) values ('k', 'bad', '{host}')"
            )
            try await database.query("select breakwater.open_circuit('k', 'the host is down', key => 'bad')")
            try await database.query("insert into breakwater.job (kind, payload) values ('k', '{\"host\": \"bad\"}')")
            #expect(try await worker.claim().isEmpty)
            #expect(try await database.query("select breakwater.run_now(1)")[0][0].bool())
            let why = try await database.text("select breakwater.why_waits(1)")
            #expect(why.contains("bad") && why.contains("is open until") && why.contains("the host is down"), "\(why)")
            // The same for a job that waited for its time.
            try await database.query("select breakwater.enqueue('k', '{\"host\": \"bad\"}', run_at => '2999-01-01Z')")
            try await database.query("select breakwater.run_now(2)")
            #expect(try await database.text("select breakwater.why_waits(2)") == why)
            try await database.query("select breakwater.enqueue('k', '{\"host\": \"good\"}', run_at => '2999-01-01Z')")
            try await database.query("select breakwater.run_now(3)")
            #expect(try await database.query("select breakwater.why_waits(3)")[0][0].stringOrNil() == nil)
            try await database.query("select breakwater.pause_kind('k', 'a holiday')")
            #expect(try await database.text("select breakwater.why_waits(3)").contains("a holiday"))
        }
    }

    @Test("and a job that waits for another one of its key says so")
    func stillOrdered() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { $0.order = KeyOrder(by: ["c"]) }
            try await database.query(
                "insert into breakwater.job (kind, payload) select 'k', '{\"c\": \"a\"}' from generate_series(1, 2)"
            )
            #expect(try await worker.claim().map(\.id) == [1])
            try await database.query("select breakwater.run_now(2)")
            #expect(try await database.text("select breakwater.why_waits(2)").contains("c a runs another job, 1"))
        }
    }

    @Test("as dead letters: a redrive with another payload")
    func redrive() async throws {
        try await withTestDatabase { database in
            try await database.query("insert into breakwater.job (kind, payload) values ('k', '{\"n\": 1}')")
            try await database.query("select breakwater.cancel(1)")
            #expect(try await database.query("select breakwater.redrive(1, payload => '{\"n\": 2}')")[0][0].bool())
            #expect(try await status(database, 1, "payload ->> 'n'") == "2")
            let details = try await database.text("select details::text from breakwater.audit order by id desc limit 1")
            #expect(details.contains("\"payload\": \"changed\""))
        }
    }

    @Test("in bulk by kind, queue and payload: waiting ones are cancelled, running ones are left and counted")
    func cancelInBulk() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.query(
                """
                insert into breakwater.job (kind, queue, payload)
                select 'k', case when i % 2 = 0 then 'bulk' else 'default' end, jsonb_build_object('n', i % 5)
                  from generate_series(1, 40) i
                """
            )
            try await database.insert(3, kind: "other")
            #expect(try await worker.claim(2).count == 2)
            func cancel(_ arguments: String) async throws -> Int {
                try await database.number("select breakwater.cancel_jobs(\(arguments))")
            }
            #expect(try await cancel("'k', dry_run => true") == 38)
            #expect(try await database.count("dead_letter") == 0)
            #expect(try await cancel("queue => 'bulk', payload => '{\"n\": 2}'") == 4)
            #expect(try await cancel("'k', path => '$.n > 3', limit_to => 3") == 3)
            #expect(try await cancel("'k'") == 31)
            #expect(try await database.count("job") == 5)
            // One row for each call, though it works in portions.
            let rows = try await database.texts(
                "select action || ' ' || (details ->> 'count') from breakwater.audit order by id"
            )
            #expect(rows == ["jobs.cancel 4", "jobs.cancel 3", "jobs.cancel 31"])
            let error = await postgresError { _ = try await cancel("") }
            #expect(error?.message == "nothing says which jobs")
        }
    }

    @Test("in bulk in portions, of which each begins where the last one ended and adds to one row of the audit log")
    func portions() async throws {
        try await withTestDatabase { database in
            _ = try await HandWorker(database)
            try await database.query(
                "insert into breakwater.job (kind, run_at) select 'k', '2999-01-01Z' from generate_series(1, 25)"
            )
            try await database.query("update breakwater.job set crashes = 2 where id = 3")
            var last: Int64?
            var audit: Int64?
            var counts: [Int] = []
            repeat {
                let row = try await database.query(
                    """
                    select done, last, is_last, audit
                      from breakwater.run_jobs_now_some('k', null, null, null, 25, $1, 10, false, 'r', 'ann', $2)
                    """,
                    [.int8(last), .int8(audit)]
                )[0]
                counts.append(try row["done"].int())
                last = try row["last"].int64OrNil()
                audit = try row["audit"].int64OrNil()
                if try row["is_last"].bool() { break }
            } while counts.count < 10
            #expect(counts == [10, 10, 4])
            #expect(try await database.numbers("select id from breakwater.job where run_at is not null") == [3])
            #expect(
                try await database.texts(
                    "select concat_ws(' ', actor, action, details ->> 'count') from breakwater.audit"
                )
                    == ["ann jobs.run_now 24"]
            )
        }
    }
}
