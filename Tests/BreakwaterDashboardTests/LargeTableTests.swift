import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import BreakwaterAdmin
@testable import BreakwaterDashboard

/// These rules keep the pages quick. `scripts/bench.d/dashboard` measures how quick they are.
@Suite("Large tables", .enabled(if: TestDatabase.isAvailable))
struct LargeTableTests {
    private func admin(_ database: TestDatabase) -> AdminDatabase {
        AdminDatabase(connection: database.connection, place: "test", limit: .seconds(30))
    }

    /// Registers kinds with rules. Some have a circuit of their own, some share one, and some have one for each key.
    private func handle(_ kinds: String, shared: String = "null", keyed: String = "null", _ database: TestDatabase)
        async throws
    {
        try await database.query(
            """
            insert into breakwater.handler (
                kind, timeout, max_attempts, keep_results, circuit_enabled, failure_rate, circuit_window, minimum_calls,
                open_for, open_factor, open_cap, probes, successes_to_close, ramp, suspends_workers, fallback, shared_key,
                key_path)
            select k, '1 min', 10, '0', true, 0.5, '1 min', 20, '30 s', 2, '10 min', 3, 3, '10 s', true, 'hold', \(shared),
                   \(keyed)
              from \(kinds)
            """
        )
    }

    @Test("counts of jobs behind circuits agree with the exact view: own, shared and of keys, without running jobs")
    func waiting() async throws {
        try await withTestDatabase { database in
            try await handle("unnest(array['a', 'b']) k", database)
            try await handle("unnest(array['c', 'd']) k", shared: "'s'", database)
            try await handle("unnest(array['e']) k", keyed: "array['host']", database)
            try await database.query(
                """
                insert into breakwater.circuit (kind, key)
                values ('a', ''), ('b', ''), ('*', 's'), ('e', ''), ('e', 'x'), ('e', 'y')
                """
            )
            try await database.query(
                """
                insert into breakwater.job (kind, queue, priority, run_at, parked)
                select (array['a', 'b', 'c', 'd', 'e'])[1 + i % 5], 'q' || i % 3, i % 10,
                       case when i % 7 = 0 then now() + interval '1 h' when i % 5 = 4 and i % 2 = 0 then 'infinity' end,
                       case when i % 7 <> 0 and i % 5 = 4 and i % 2 = 0 then (array['x', 'y'])[1 + i % 3 / 2] end
                  from generate_series(1, 500) i
                """
            )
            try await database.query(
                """
                insert into breakwater.claim (lease, worker, last, floor, jobs)
                select 1, 1, 0, 0, array_agg(id) from breakwater.job where run_at is null and id % 11 = 0
                """
            )
            let some = try await admin(database).someCircuits(limit: 100)
            let all = try await admin(database).circuits()
            #expect(some.count == 6 && all.count == 6)
            for circuit in some {
                // This counts the waiting jobs one by one.
                let waiting = try await database.query(
                    """
                    select count(*) from breakwater.job j
                     where case when $1 <> '*' and $2 <> '' then j.kind = $1 and j.parked = $2
                                else j.run_at is null and j.id not in (select job from breakwater.held) and j.kind in (
                                         select h.kind from breakwater.handler h
                                          where case when $1 = '*' then h.shared_key = $2 else h.kind = $1 end) end
                    """,
                    [.text(circuit.id.kind), .text(circuit.id.key)]
                )[0][0].int()
                #expect(circuit.waiting == waiting && waiting > 0, "\(circuit.id)")
                #expect(all.first { $0.id == circuit.id }?.waiting == waiting)
                let view = try await database.query(
                    "select waiting from breakwater.circuit_status where kind = $1 and key = $2",
                    [.text(circuit.id.kind), .text(circuit.id.key)]
                )
                #expect(try view[0][0].int() == waiting)
            }
            let capped = try await database.numbers(
                "select waiting from breakwater.waiting_behind(array['a', '*', 'e'], array['', 's', 'x'], 9)"
            )
            #expect(capped == [9, 9, 9])
        }
    }

    @Test("judging a circuit reads its own tallies, however many others there are")
    func window() async throws {
        try await withTestDatabase { database in
            try await handle("(select 'k' || i as k from generate_series(1, 30) i) i", database)
            try await database.query("insert into breakwater.circuit (kind) select kind from breakwater.handler")
            // There is one tally for each second, as workers write them. The clock stands still, because writing them
            // takes a while on a slow machine.
            try await database.query("select set_config('breakwater.clock', now()::text, false)")
            try await database.query(
                """
                insert into breakwater.tally (kind, generation, slot, worker, succeeded, failed, slow, retries, trailing_failures)
                select 'k' || k, 1, date_trunc('second', breakwater.clock()) - make_interval(secs => s), w, 1, 1, 0, 0, 0
                  from generate_series(600, 0, -1) s, generate_series(1, 30) k, generate_series(1, 4) w
                """
            )
            try await database.query("vacuum analyze breakwater.tally")
            try await database.query("begin")
            let calls = try await database.number("select calls from breakwater.circuit_status where kind = 'k3'")
            let parts = try await database.number(
                "select sum(succeeded + failed)::int8 from breakwater.window_parts('k3', '', 40)"
            )
            let read = try await database.number(
                "select idx_tup_fetch + seq_tup_read from pg_stat_xact_user_tables where relid = 'breakwater.tally'::regclass"
            )
            try await database.query("commit")
            // The window has 60 seconds of four workers with two calls each, except for the seconds since they were
            // written.
            #expect((200...490).contains(calls) && abs(calls - parts) <= 8, "\(calls) \(parts)")
            // It reads twice the window, and the thousand newest tallies for the streak. All kinds together have
            // 72,000.
            #expect(read < 2500, "read \(read) rows")
        }
    }

    @Test("causes are counted up to a cap for each and for all, and for one kind alone if one is given")
    func causes() async throws {
        try await withTestDatabase { database in
            try await database.query(
                """
                insert into breakwater.dead_letter (id, queue, kind, priority, payload, reason, attempt, errors, enqueued_at, died_at)
                select i, 'q', 'k' || i % 2, 5, '{}', 'exhausted', 1,
                       case when i % 30 < 2 then '[]' else jsonb_build_array(jsonb_build_object(
                           'name', 'error.' || chr(97 + i % 30 / 2), 'message', 'no')) end,
                       now(), now() - make_interval(secs => i)
                  from generate_series(1, 900) i
                """
            )
            let all = try await database.query(
                "select kind, failure, letters, is_capped from breakwater.dead_letter_groups(null, 10, 100)"
            )
            let counts = try all.map { try $0["letters"].int() }
            // Twenty causes use up the cap for all. For each of the others, a tenth of the cap for one is left.
            #expect(counts == Array(repeating: 10, count: 20) + Array(repeating: 1, count: 10))
            #expect(try all.allSatisfy { try $0["is_capped"].bool() })
            let own = try await admin(database).deadLetterGroups(kind: "k1", limit: 100)
            #expect(own.map(\.failure) == [""] + "bcdefghijklmno".map { "error.\($0): no" })
            #expect(own.allSatisfy { $0.kind == "k1" && $0.count == 30 && !$0.isCapped && $0.oldest < $0.newest })
            #expect(try await admin(database).deadLetterGroups(kind: "k", limit: 100).isEmpty)

            let latest = try await admin(database).latestFailures(limit: 3)
            #expect(latest.map(\.kind) == ["k1", "k0", "k1"])
            #expect(latest.map(\.failure) == ["", "error.b: no", "error.b: no"])
            #expect(latest.map(\.example) == [1, 2, 3] && latest.allSatisfy { $0.count == 30 })
        }
    }

    @Test("the last minute is the last sixty seconds, whatever the clock says")
    func lastMinute() async throws {
        try await withTestDatabase { database in
            try await database.query(
                """
                insert into breakwater.tally (kind, key, generation, slot, worker, succeeded, failed, slow, retries, trailing_failures)
                select k, key, 1, now() - make_interval(secs => s), 1, 10, s, 0, 0, 0
                  from (values ('k', ''), ('k', 'a key'), ('*', 's')) c(k, key), unnest(array[2, 40, 90]) s
                """
            )
            let calls = try await admin(database).recentCallCounts(seconds: 60)
            #expect(calls.succeeded == 20 && calls.failed == 42)
        }
    }

    @Test("queries for pages run without the JIT compiler, and cannot change anything")
    func settings() async throws {
        try await withTestDatabase { database in
            try await database.query("set jit = on")
            let rows = try await admin(database).read(
                "select current_setting('jit'), current_setting('transaction_read_only')"
            )
            #expect(try rows[0][0].string() == "off" && rows[0][1].string() == "on")
            #expect(try await database.text("select current_setting('jit')") == "on")
        }
    }

    @Test("a job's page links to the circuit that decides, which kinds may share")
    func sharedCircuit() async throws {
        try await withSite { test in
            try await handle("unnest(array['c', 'd']) k", shared: "'the bank'", test.database)
            try await test.database.query(
                "insert into breakwater.circuit (kind, key) values ('c', ''), ('*', 'the bank')"
            )
            let job = try await test.database.number("select breakwater.enqueue('c')")
            var ann = try await test.logIn("ann")
            let page = await ann.get("/jobs/\(job)").text
            #expect(page.contains("kind=%2A&amp;key=the%20bank\">the bank</a>"), "\(page)")
        }
    }

    @Test("a cause without a kind is ignored, because a search among all kinds would be slow")
    func causeWithoutKind() async throws {
        try await withSite { test in
            try await SiteTests.furnish(test.database)
            var ann = try await test.logIn("ann")
            #expect(await ann.get("/dead-letters", "failure=nothing").text.contains("/jobs/1000000"))
            #expect(!(await ann.get("/dead-letters", "kind=k&failure=nothing").text.contains("/jobs/1000000")))
        }
    }
}
