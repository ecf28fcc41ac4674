import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("A limit of one key", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct KeyLimitTests {
    private func insert(_ tenants: [String], into database: TestDatabase, weight: Int = 1) async throws {
        try await database.query(
            """
            insert into breakwater.job (kind, payload)
            select 'k', jsonb_build_object('t', t, 'w', $2) from unnest($1::text[]) with ordinality u(t, n) order by n
            """,
            [.textArray(tenants), .int4(Int32(weight))]
        )
    }

    private func worker(_ database: TestDatabase, _ limit: JobLimit) async throws -> HandWorker {
        try await HandWorker(database) { $0.limits = [limit] }
    }

    /// The limit of the kind `k` that these tests use, by its name.
    private let name = "k $.t"

    @Test("holds for that key alone, up and down, until it is removed")
    func concurrency() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database, JobLimit(concurrency: 2, key: ["t"]))
            try await database.query("select breakwater.set_key_limit($1, 'gold', concurrency => 4)", [.text(name)])
            try await database.query("select breakwater.set_key_limit($1, 'slow', concurrency => 1)", [.text(name)])
            try await insert(["gold", "gold", "slow", "gold", "slow", "a", "gold", "a", "gold", "a"], into: database)
            let first = try await worker.claim()
            #expect(first.map(\.id) == [1, 2, 3, 4, 6, 7, 8])
            #expect(
                try await database.text("select why from breakwater.job_status where id = 9")
                    == "the limit 'k $.t' lets 4 run at once of t gold, and 4 run"
            )
            #expect(try await database.number("select key_limits from breakwater.limit_status") == 2)
            // A job of each ends, and one of each may start.
            try await worker.settle(first.filter { [1, 3, 6].contains($0.id) })
            #expect(try await worker.claim().map(\.id) == [5, 9, 10])
            // The change applies to what runs already.
            try await insert(["slow", "slow"], into: database)
            #expect(try await worker.claim().isEmpty)
            #expect(
                try await database.text("select breakwater.remove_key_limit($1, 'slow')::text", [.text(name)]) == "true"
            )
            #expect(try await worker.claim().count == 1)
            #expect(
                try await database.text("select breakwater.remove_key_limit($1, 'slow')::text", [.text(name)])
                    == "false"
            )
        }
    }

    @Test("may be a rate where the others have none, and a concurrency where the others have a rate")
    func rate() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database, JobLimit(rate: .init(1, per: .seconds(3600)), burst: 1, key: ["t"]))
            try await database.query(
                "select breakwater.set_key_limit($1, 'fast', rate => 2, per => '1 hour', burst => 3)",
                [.text(name)]
            )
            try await database.query("select breakwater.set_key_limit($1, 'free', concurrency => 3)", [.text(name)])
            try await insert(
                ["fast", "a", "fast", "free", "a", "fast", "free", "fast", "free", "free"],
                into: database
            )
            let first = try await worker.claim()
            #expect(first.map(\.id) == [1, 2, 3, 4, 6, 7, 9])
            // An end lets another job start under a concurrency, and not under a rate.
            try await worker.settle(first)
            #expect(try await worker.claim().map(\.id) == [10])
            #expect(
                try await database.text("select why from breakwater.job_status where id = 8")
                    == "the limit 'k $.t' lets 2/h start of t fast: free in 30 min"
            )
            // Time lets one start under a rate, as late as the key's own rate says.
            try await database.query("update breakwater.key_clock set due_at = due_at - interval '40 minutes'")
            try await database.query("update breakwater.freed_key set due_at = due_at - interval '40 minutes'")
            #expect(try await worker.claim().map(\.id) == [8])
        }
    }

    @Test("counts a job for no more than it allows, so that each can run")
    func weight() async throws {
        try await withTestDatabase { database in
            var limit = JobLimit(concurrency: 10, key: ["t"])
            limit.weight = ["w"]
            let worker = try await worker(database, limit)
            try await database.query("select breakwater.set_key_limit($1, 'small', concurrency => 2)", [.text(name)])
            try await insert(["small", "a", "small", "a"], into: database, weight: 8)
            let first = try await worker.claim()
            #expect(first.map(\.id) == [1, 2])
            try await worker.settle(first)
            #expect(try await worker.claim().map(\.id) == [3, 4])
        }
    }

    @Test("with a rate beside it lets as many run as the concurrency says, although they run long")
    func rateAndConcurrency() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(
                database,
                JobLimit(concurrency: 3, rate: .init(10, per: .seconds(3600)), burst: 1, key: ["t"])
            )
            try await insert(["a", "a", "a", "a"], into: database)
            var running = try await worker.claim()
            for count in 1...3 {
                #expect(running.count == count)
                try await database.query("update breakwater.key_clock set due_at = due_at - interval '1 hour'")
                try await database.query("update breakwater.freed_key set due_at = now() - interval '1 hour'")
                running += try await worker.claim()
            }
            #expect(running.count == 3)
        }
    }

    @Test("stays when its limit is changed, and goes when the limit goes or gets another key")
    func lifetime() async throws {
        try await withTestDatabase { database in
            _ = try await HandWorker(database)
            let count = "select count(*) from breakwater.key_limit"
            try await database.query("select breakwater.set_limit('k', 2, key => '$.t')")
            try await database.query("select breakwater.set_key_limit('k', 'a', 1)")
            try await database.query("select breakwater.set_limit('k', 3, key => '$.t')")
            #expect(try await database.number(count) == 1)
            #expect(try await database.number("select count(*) from breakwater.flow_rule where has_key_limits") == 1)
            try await database.query("select breakwater.set_limit('k', 3, key => '$.u')")
            #expect(try await database.number(count) == 0)
            try await database.query("select breakwater.set_key_limit('k', 'a', rate => 1)")
            try await database.query("select breakwater.remove_limit('k')")
            #expect(try await database.number(count) == 0)
        }
    }

    @Test(
        "is refused where it means nothing, with a message that says why",
        arguments: [
            ("'none', 'a', 1", "P0002", "there is no limit 'none' with a key"),
            ("'plain', 'a', 1", "P0002", "there is no limit 'plain' with a key"),
            ("'k', null, 1", "22023", "the limit of a key needs the key's value"),
            ("'k', 'a'", "22023", "the limit 'k' of 'a' limits nothing: give concurrency, rate, or both"),
            ("'k', 'a', 0", "22023", "the limit 'k' of 'a' has concurrency 0, which is not 1 to 1000000"),
            ("'k', 'a', burst => 3, concurrency => 1", "22023", "the limit 'k' of 'a' has a burst but no rate"),
        ]
    )
    func refused(arguments: String, state: String, message: String) async throws {
        try await withTestDatabase { database in
            try await database.query("select breakwater.set_limit('k', 2, key => '$.t')")
            try await database.query("select breakwater.set_limit('plain', 2)")
            let error = await postgresError {
                try await database.query("select breakwater.set_key_limit(\(arguments))")
            }
            #expect(error?.sqlState == state)
            #expect(error?.message == message)
        }
    }

    // MARK: Endpoints

    private func register(_ kinds: [String], path: [String] = ["to"], in database: TestDatabase) async throws {
        let kinds = kinds.map { #"{"kind": "\#($0)", "path": ["\#(path[0])"], "when_disabled": "hold"}"# }
        try await database.query(
            "select breakwater.register_endpoint_kinds($1)",
            [.jsonb("[\(kinds.joined(separator: ","))]")]
        )
    }

    @Test("is what an endpoint has, over all kinds that are sent to it, also to kinds that come later")
    func endpoints() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, ["hook", "mail", "other"])
            try await register(["hook"], in: database)
            try await database.query("select breakwater.set_endpoint('free', 'https://free.example')")
            #expect(try await database.number("select count(*) from breakwater.flow_rule") == 0)
            try await database.query("select breakwater.set_endpoint('acme', 'https://acme.example', concurrency => 2)")
            try await register(["mail"], in: database)
            for kind in ["hook", "mail", "other"] {
                try await database.query(
                    """
                    insert into breakwater.job (kind, payload)
                    select $1, jsonb_build_object('to', t) from unnest(array['acme', 'acme', 'free', 'free']) t
                    """,
                    [.text(kind)]
                )
            }
            let kinds = try await worker.claim().map(\.kind)
            #expect(kinds.count == 10)
            #expect(kinds.count { $0 == "other" } == 4)
            let shown = "select concat_ws(' ', concurrency, rate) from breakwater.endpoint_status where name = 'acme'"
            #expect(try await database.text(shown) == "2")
            // Without a limit of an endpoint, there is no rule that costs something.
            try await database.query("select breakwater.set_endpoint('acme', concurrency => 0)")
            #expect(try await database.number("select count(*) from breakwater.flow_rule") == 0)
            try await waitUntil("the leader has put the jobs back into their lanes") {
                try await worker.maintain()
                return try await !worker.claim().isEmpty
            }
        }
    }

    @Test("of an endpoint is changed in part, and goes with the endpoint")
    func endpointChanges() async throws {
        try await withTestDatabase { database in
            try await register(["hook"], in: database)
            let set = "select breakwater.set_endpoint('acme', "
            let limit = "select concat_ws(' ', key, concurrency, rate, burst) from breakwater.key_limit"
            try await database.query(set + "'https://acme.example', concurrency => 3, rate => 120, per => '1 minute')")
            #expect(try await database.text(limit) == "acme 3 2 1")
            try await database.query(set + "burst => 9)")
            #expect(try await database.text(limit) == "acme 3 2 9")
            try await database.query(set + "concurrency => 0)")
            #expect(try await database.text(limit) == "acme 2 9")
            try await database.query(set + "secrets => '{}')")
            #expect(try await database.text(limit) == "acme 2 9")
            for (arguments, message) in [
                ("concurrency => -1", "the endpoint 'acme' has concurrency -1, which is not 1 to 1000000"),
                ("rate => 5, per => '0'", "the endpoint 'acme' has a rate per 00:00:00, which is no positive time"),
                ("burst => 0", "the endpoint 'acme' has burst 0, which is not 1 to 1000000"),
            ] {
                let error = await postgresError { try await database.query(set + "\(arguments))") }
                #expect(error?.message == message)
            }
            try await database.query("select breakwater.remove_endpoint('acme')")
            #expect(try await database.number("select count(*) from breakwater.key_limit") == 0)
            #expect(try await database.number("select count(*) from breakwater.flow_rule") == 0)
        }
    }
}
