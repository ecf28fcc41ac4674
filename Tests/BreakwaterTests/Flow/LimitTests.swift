import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("A limit", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct LimitTests {
    @Test("of a kind holds for the whole fleet, and is free again when jobs end, fail or are released")
    func concurrency() async throws {
        try await withTestDatabase { database in
            let limit: (inout HandlerSettings) -> Void = { $0.limits = [JobLimit(concurrency: 5)] }
            let (one, two) = (
                try await HandWorker(database, settings: limit), try await HandWorker(database, settings: limit)
            )
            try await database.insert(50)
            let first = try await one.claim()
            #expect(first.count == 5)
            #expect(try await two.claim().isEmpty)
            try await one.settle([first[0]], claims: [])
            try await one.settle([first[1]], .failed(delay: .seconds(60)))
            try await one.settle([first[2]], .snoozed())
            #expect(try await two.claim().count == 3)
            #expect(try await one.claim().isEmpty)
            #expect(try await database.number("select count(*) from breakwater.held") == 5)
        }
    }

    @Test("counts what a lost worker held until its jobs are rescued, and nothing after")
    func rescue() async throws {
        try await withTestDatabase { database in
            let limit: (inout HandlerSettings) -> Void = { $0.limits = [JobLimit(concurrency: 3)] }
            let (one, two) = (
                try await HandWorker(database, settings: limit), try await HandWorker(database, settings: limit)
            )
            try await database.insert(20)
            let lost = try await one.claim()
            #expect(lost.count == 3)
            #expect(try await two.claim().isEmpty)
            try await database.query(
                "update breakwater.worker set beat_at = now() - interval '2 hours' where id = $1",
                [.int8(one.id)]
            )
            try await two.maintain()
            #expect(try await two.claim().count == 3)
            // A result that comes too late changes nothing, and frees no place.
            #expect(try await one.settle(lost).stale.count == 3)
            #expect(try await two.claim().isEmpty)
        }
    }

    @Test("that kinds share by name counts the jobs of all of them")
    func shared() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, ["a", "b", "c"]) {
                $0.limits = [JobLimit(concurrency: 4, name: "crm")]
            }
            let other = try await HandWorker(database, ["d"])
            try await database.insert(3, kind: "a")
            try await database.insert(3, kind: "b")
            try await database.insert(3, kind: "d")
            #expect(try await worker.claim().count == 4)
            #expect(try await other.claim().count == 3)
            #expect(
                try await database.text("select array_to_string(kinds, ',') from breakwater.limit_status") == "a,b,c"
            )
        }
    }

    @Test("of each value of the payload lets other values pass, and lets held back jobs run in their order")
    func keyed() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { $0.limits = [JobLimit(concurrency: 2, key: ["tenant"])] }
            try await database.query(
                """
                insert into breakwater.job (kind, payload)
                select 'k', jsonb_build_object('tenant', t) from unnest(array['a','a','a','a','b','a','c','a']) t
                """
            )
            let first = try await worker.claim()
            #expect(first.map(\.id) == [1, 2, 5, 7])
            #expect(try await worker.claim().isEmpty)
            #expect(try await database.text("select state from breakwater.job_status where id = 3") == "limited")
            #expect(
                try await database.text("select why from breakwater.job_status where id = 3")
                    == "the limit 'k $.tenant' lets 2 run at once of tenant a, and 2 run"
            )
            try await worker.settle([first[0], first[2]])
            #expect(try await worker.claim().map(\.id) == [3])
            try await worker.settle([first[1]])
            #expect(try await worker.claim().map(\.id) == [4])
        }
    }

    @Test("counts a job for as many as its weight says, at most for the whole limit")
    func weight() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) {
                var limit = JobLimit(concurrency: 10)
                limit.weight = ["pages"]
                $0.limits = [limit]
            }
            try await database.query(
                """
                insert into breakwater.job (kind, payload)
                select 'k', jsonb_build_object('pages', p) from unnest(array[4, 5, 3, 1, 5, 1000]) p
                """
            )
            // A job that does not fit is not overtaken, or it might wait for ever.
            let first = try await worker.claim()
            #expect(first.map(\.id) == [1, 2])
            try await worker.settle([first[0]])
            let second = try await worker.claim()
            #expect(second.map(\.id) == [3, 4])
            try await worker.settle([first[1]] + second)
            let third = try await worker.claim()
            #expect(third.map(\.id) == [5])
            try await worker.settle(third)
            #expect(try await worker.claim().map(\.id) == [6])
        }
    }

    @Test("that is set while jobs run counts them, and one that is removed lets all run")
    func setAndRemoved() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.insert(30)
            let running = try await worker.claim(8)
            try await database.query("select breakwater.set_limit('k', concurrency => 10, reason => 'too many')")
            #expect(try await worker.claim().count == 2)
            try await database.query("select breakwater.set_limit('k', concurrency => 6)")
            try await worker.settle(Array(running[0..<4]))
            #expect(try await worker.claim().isEmpty)
            try await worker.settle([running[4]])
            #expect(try await worker.claim().count == 1)
            try await database.query("select breakwater.remove_limit('k')")
            #expect(try await worker.claim().count == 19)
            #expect(
                try await database.text(
                    "select string_agg(action || ' ' || target, ', ' order by id) from breakwater.audit"
                )
                    == "limit.set k, limit.set k, limit.remove k"
            )
        }
    }

    @Test("of an operator holds over that of the configuration until it is removed, also when workers register again")
    func precedence() async throws {
        try await withTestDatabase { database in
            let limit: (inout HandlerSettings) -> Void = { $0.limits = [JobLimit(concurrency: 5)] }
            let worker = try await HandWorker(database, settings: limit)
            try await database.insert(30)
            try await database.query("select breakwater.set_limit('k', concurrency => 2)")
            let other = try await HandWorker(database, settings: limit)
            #expect(try await worker.claim().count == 2)
            try await database.query("select breakwater.remove_limit('k')")
            #expect(try await other.claim().count == 3)
            // A deployment without the limit removes it.
            let last = try await HandWorker(database)
            #expect(try await last.claim().count == 25)
            #expect(try await database.count("flow_rule") == 0)
        }
    }

    @Test("that is removed while it holds back jobs of keys lets the leader put them back in their order")
    func removedKeyed() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.query(
                "select breakwater.set_limit('per tenant', concurrency => 1, key => '$.t', kinds => '{k}')"
            )
            try await database.query(
                "insert into breakwater.job (kind, payload) select 'k', '{\"t\": 1}' from generate_series(1, 40)"
            )
            #expect(try await worker.claim().map(\.id) == [1])
            #expect(try await database.number("select count(*) from breakwater.job where rule is not null") == 39)
            try await database.query("select breakwater.remove_limit('per tenant')")
            try await worker.maintain()
            #expect(try await worker.claim().map(\.id) == Array(2...40))
        }
    }

    @Test(
        "that is wrong is refused with a message that says what is wrong",
        arguments: [
            ("'k'", "the limit 'k' limits nothing: give concurrency, rate, or both"),
            ("'k', concurrency => 0", "the limit 'k' has concurrency 0, which is not 1 to 1000000"),
            ("'k', concurrency => -5", "the limit 'k' has concurrency -5, which is not 1 to 1000000"),
            ("'k', concurrency => 2000000", "the limit 'k' has concurrency 2000000, which is not 1 to 1000000"),
            ("'k', rate => 0", "the limit 'k' has rate 0, which is not above 0"),
            ("'k', rate => 'NaN'", "the limit 'k' has rate NaN, which is not above 0"),
            ("'k', rate => 5, per => '-1 s'", "the limit 'k' has a rate per -00:00:01, which is no positive time"),
            (
                "'k', rate => 5e9",
                "the limit 'k' has a rate of 5000000000 a second, which is not between one a year and 1000000 a second"
            ),
            ("'k', concurrency => 5, burst => 3", "the limit 'k' has a burst but no rate"),
            ("'k', rate => 5, burst => 0", "the limit 'k' has burst 0, which is not 1 to 1000000"),
            ("'', concurrency => 5", "a limit needs a name of 1 to 200 bytes, without control characters"),
            ("null, concurrency => 5", "a limit needs a name of 1 to 200 bytes, without control characters"),
            (
                "repeat('x', 201), concurrency => 5",
                "a limit needs a name of 1 to 200 bytes, without control characters"
            ),
            (
                "'k', concurrency => 5, key => '$.a[*]'",
                "the limit 'k' has the path '$.a[*]', which is not one such as $.customer.id"
            ),
        ]
    )
    func refused(_ arguments: String, _ message: String) async throws {
        try await withTestDatabase { database in
            let error = await postgresError { try await database.query("select breakwater.set_limit(\(arguments))") }
            #expect(error?.message.contains(message) == true, "\(error?.message ?? "no error")")
            let rules = try await database.count("flow_rule")
            #expect(rules == 0)
        }
    }

    @Test("applies under the empty key to jobs without the key's path, and a key of 10 kB is a key like any other")
    func oddKeys() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { $0.limits = [JobLimit(concurrency: 1, key: ["t", "id"])] }
            try await database.query(
                """
                insert into breakwater.job (kind, payload) values
                    ('k', '{}'), ('k', 'null'), ('k', '{"t": 5}'), ('k', '{"t": {"id": ""}}'),
                    ('k', jsonb_build_object('t', jsonb_build_object('id', repeat('x', 10000)))),
                    ('k', jsonb_build_object('t', jsonb_build_object('id', repeat('x', 10000)))),
                    ('k', '{"t": {"id": [1, 2]}}')
                """
            )
            let first = try await worker.claim()
            #expect(first.map(\.id) == [1, 5, 7])
            try await worker.settle(first)
            #expect(try await worker.claim().map(\.id) == [2, 6])
            #expect(
                try await database.text("select why from breakwater.job_status where id = 3")
                    == "the limit 'k $.t.id' lets 1 run at once of jobs without id, and 1 run"
            )
        }
    }

    @Test("holds while a user deletes the handler's row again and again")
    func deletedHandler() async throws {
        try await withTestDatabase { database in
            let limit: (inout HandlerSettings) -> Void = { $0.limits = [JobLimit(concurrency: 3)] }
            let (one, two) = (
                try await HandWorker(database, settings: limit), try await HandWorker(database, settings: limit)
            )
            try await database.insert(2000)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    for _ in 1...300 {
                        try await database.query("delete from breakwater.handler")
                        try await one.renewRegistration()
                    }
                }
                group.addTask {
                    for _ in 1...600 { _ = try await two.claim() }
                }
                try await group.waitForAll()
            }
            #expect(try await database.number("select count(*) from breakwater.held") <= 3)
        }
    }

    @Test("holds for probes, test shots and suspects too")
    func special() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) {
                $0.limits = [JobLimit(concurrency: 1)]
                $0.circuit.probes = 3
            }
            try await database.insert(5)
            try await database.query("select breakwater.open_circuit('k', 'test')")
            try await database.query(
                "update breakwater.circuit set state = 'half_open', override = null where kind = 'k'"
            )
            let probe = try await worker.claim()
            #expect(probe.count == 1)
            #expect(try await worker.claim().isEmpty)
            try await database.query("select breakwater.run_through(5, 'test')")
            #expect(try await worker.claim().isEmpty)
            try await worker.settle(probe)
            #expect(try await worker.claim().count == 1)
            #expect(try await worker.claim().isEmpty)
        }
    }
}
