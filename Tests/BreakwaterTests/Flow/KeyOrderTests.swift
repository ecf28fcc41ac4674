import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("Ordered keys", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct KeyOrderTests {
    private func insert(_ keys: [String], into database: TestDatabase) async throws {
        try await database.query(
            "insert into breakwater.job (kind, payload) select 'k', jsonb_build_object('c', c) from unnest($1::text[]) c",
            [.textArray(keys)]
        )
    }

    private func worker(_ database: TestDatabase, onDead: KeyOrder.OnDead = .continue) async throws -> HandWorker {
        try await HandWorker(database) { $0.order = KeyOrder(by: ["c"], onDead: onDead) }
    }

    @Test("run one job at a time, in the order of enqueueing, also across retries, snoozes and releases")
    func retries() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await insert(["a", "a", "b", "a", "b"], into: database)
            let first = try await worker.claim()
            #expect(first.map(\.id) == [1, 3])
            try await worker.settle([first[0]], .failed(delay: .seconds(3600)))
            try await worker.settle([first[1]], .snoozed())
            // Job 1 retries in an hour, and holds up its key. Job 3 comes again before 5.
            let second = try await worker.claim()
            #expect(second.map(\.id) == [3])
            #expect(try await database.text("select state from breakwater.job_status where id = 2") == "ordered")
            #expect(
                try await database.text(
                    "select (why like 'c a waits for its job 1, which runs again at %')::text from breakwater.job_status where id = 2"
                )
                    == "true"
            )
            try await worker.settle(second)
            #expect(try await worker.claim().map(\.id) == [5])
            #expect(
                try await database.text(
                    "select (why like 'c a waits for its job 1%')::text from breakwater.job_status where id = 4"
                ) == "true"
            )
            try await database.query("select breakwater.run_now(1, 'now')")
            let third = try await worker.claim()
            #expect(third.map(\.id) == [1])
            #expect(
                try await database.text(
                    "select (why like 'c a runs another job, 1, since %')::text from breakwater.job_status where id = 2"
                )
                    == "true"
            )
            try await worker.settle(third)
            let fourth = try await worker.claim()
            #expect(fourth.map(\.id) == [2])
            try await worker.settle(fourth)
            #expect(try await worker.claim().map(\.id) == [4])
        }
    }

    @Test("go on after a lost worker with the job that it held")
    func lostWorker() async throws {
        try await withTestDatabase { database in
            let (one, two) = (try await worker(database), try await worker(database))
            try await insert(["a", "a", "a"], into: database)
            #expect(try await one.claim().map(\.id) == [1])
            #expect(try await two.claim().isEmpty)
            try await database.query(
                "update breakwater.worker set beat_at = now() - interval '2 hours' where id = $1",
                [.int8(one.id)]
            )
            try await two.maintain()
            let again = try await two.claim()
            #expect(again.map(\.id) == [1])
            try await two.settle(again)
            #expect(try await two.claim().map(\.id) == [2])
        }
    }

    @Test("go on with the next job when one dies or is cancelled")
    func onDeadContinue() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await insert(["a", "a", "a", "a"], into: database)
            try await worker.settle(try await worker.claim(), .discarded)
            let second = try await worker.claim()
            #expect(second.map(\.id) == [2])
            try await database.query("select breakwater.cancel(3, 'not needed')")
            try await worker.settle(second)
            #expect(try await worker.claim().map(\.id) == [4])
        }
    }

    @Test("that halt wait until the dead letter is redriven or purged, and other keys go on")
    func halt() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database, onDead: .halt)
            try await insert(["a", "a", "b", "b", "a"], into: database)
            let first = try await worker.claim()
            try await worker.settle(first, .discarded)
            #expect(try await worker.claim().isEmpty)
            #expect(
                try await database.text(
                    "select (why like 'c a is halted since %, because job 1 died: redrive or purge that dead letter')::text from breakwater.job_status where id = 2"
                )
                    == "true"
            )
            #expect(try await database.number("select halted_keys from breakwater.limit_status") == 2)
            try await database.query("select breakwater.redrive(1)")
            let again = try await worker.claim()
            #expect(again.map(\.id) == [1])
            try await worker.settle(again)
            #expect(try await worker.claim().map(\.id) == [2])
            try await database.query("select breakwater.purge(3)")
            #expect(try await worker.claim().map(\.id) == [4])
        }
    }

    @Test("that halt go on after a user cancelled a job")
    func cancelledDoesNotHalt() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database, onDead: .halt)
            try await insert(["a", "a"], into: database)
            try await worker.settle(try await worker.claim(), .failed(delay: .seconds(3600)))
            try await database.query("select breakwater.cancel(1, 'not needed')")
            #expect(try await worker.claim().map(\.id) == [2])
        }
    }

    @Test("hold back a job that is enqueued while another of its key runs")
    func enqueuedMeanwhile() async throws {
        try await withTestDatabase { database in
            let (one, two) = (try await worker(database), try await worker(database))
            try await insert(["a"], into: database)
            let first = try await one.claim()
            #expect(first.map(\.id) == [1])
            try await insert(["a", "b"], into: database)
            #expect(try await two.claim().map(\.id) == [3])
            try await one.settle(first)
            #expect(try await two.claim().map(\.id) == [2])
        }
    }

    @Test("stay in order when a claim takes fewer jobs than could run")
    func surplus() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await insert(["a", "b", "b", "b", "a"], into: database)
            var order: [Int64] = []
            for _ in 1...20 where order.count < 5 {
                let jobs = try await worker.claim(1)
                order += jobs.map(\.id)
                try await worker.settle(jobs)
                try await worker.maintain()
            }
            #expect(
                order.filter { [1, 5].contains($0) } == [1, 5] && order.filter { [2, 3, 4].contains($0) } == [2, 3, 4]
            )
        }
    }

    @Test("stay in order while a circuit is half-open, and are probed although all jobs are held back")
    func probes() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) {
                $0.order = KeyOrder(by: ["c"])
                $0.circuit.successesToClose = 50
            }
            try await insert(Array(repeating: "a", count: 6), into: database)
            let first = try await worker.claim()
            try await database.query(
                "update breakwater.circuit set state = 'half_open', generation = generation + 1, since = now() where kind = 'k'"
            )
            try await worker.settle(first)
            var order: [Int64] = []
            for _ in 1...20 where order.count < 5 {
                let jobs = try await worker.claim()
                order += jobs.map(\.id)
                try await worker.settle(jobs)
                try await worker.maintain()
            }
            #expect(order == [2, 3, 4, 5, 6])
        }
    }

    @Test("follow the configuration when it names another key while jobs are held back")
    func changedKey() async throws {
        try await withTestDatabase { database in
            let old = try await worker(database)
            try await database.query(
                "insert into breakwater.job (kind, payload) select 'k', '{\"c\": 1, \"d\": 2}' from generate_series(1, 4)"
            )
            let first = try await old.claim()
            let new = try await HandWorker(database) { $0.order = KeyOrder(by: ["d"]) }
            try await old.settle(first)
            var order: [Int64] = []
            for _ in 1...20 where order.count < 3 {
                try await new.maintain()
                let jobs = try await new.claim()
                order += jobs.map(\.id)
                try await new.settle(jobs)
            }
            #expect(order == [2, 3, 4])
        }
    }

    @Test("are found again after a user deleted the job that they waited for")
    func deletedByHand() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await insert(["a", "a"], into: database)
            try await worker.settle(try await worker.claim(), .failed(delay: .seconds(3600)))
            #expect(try await worker.claim().isEmpty)
            try await database.query("delete from breakwater.job where id = 1")
            try await worker.maintain()
            #expect(try await worker.claim().map(\.id) == [2])
        }
    }

    @Test("hold back later jobs of a key while its circuit is open")
    func circuit() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) {
                $0.order = KeyOrder(by: ["c"])
                $0.circuit.key = .path(["host"])
            }
            try await database.query(
                """
                insert into breakwater.circuit (kind, key, key_path, state) values ('k', 'down', '{host}', 'open');
                """
            )
            try await database.query(
                """
                insert into breakwater.job (kind, payload) values
                    ('k', '{"c": "a", "host": "down"}'), ('k', '{"c": "a", "host": "up"}'), ('k', '{"c": "b", "host": "up"}')
                """
            )
            #expect(try await worker.claim().map(\.id) == [3])
            #expect(try await worker.claim().isEmpty)
            try await database.query("update breakwater.circuit set state = 'closed' where key = 'down'")
            try await worker.maintain()
            let first = try await worker.claim()
            #expect(first.map(\.id) == [1])
            try await worker.settle(first)
            #expect(try await worker.claim().map(\.id) == [2])
        }
    }

    @Test("let the jobs of other keys pass a hundred thousand jobs of one key")
    func hotKey() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await database.query(
                "insert into breakwater.job (kind, payload) select 'k', '{\"c\": \"hot\"}' from generate_series(1, 5000)"
            )
            try await insert(["a", "b"], into: database)
            var others: [Int64] = []
            for _ in 1...10 where others.count < 2 {
                others += try await worker.claim().map(\.id).filter { $0 > 5000 }
            }
            #expect(others == [5001, 5002])
        }
    }
}
