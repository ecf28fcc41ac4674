import BreakwaterTesting
import Libpq
import Testing

@Suite("The figure that an autoscaler reads", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct ScalingTests {
    /// Reads the figure in the way of deploy/kubernetes/scaledobject.yaml.
    private func figure(_ database: TestDatabase) async throws -> Int {
        try await database.number("select coalesce(sum(ready + running), 0)::bigint from breakwater.scaling")
    }

    private func held(_ database: TestDatabase, _ kind: String) async throws -> String {
        try await database.text(
            "select concat_ws(' ', ready, running, held, held_by) from breakwater.scaling where kind = $1",
            [.text(kind)]
        )
    }

    private func handle(_ database: TestDatabase, _ kinds: String...) async throws {
        for kind in kinds {
            try await database.query(
                """
                insert into breakwater.handler (
                    kind, timeout, max_attempts, keep_results, circuit_enabled, minimum_calls, open_for, open_factor, open_cap,
                    probes, successes_to_close, ramp, suspends_workers, fallback)
                values ($1, '1m', 20, '0s', true, 20, '30s', 2, '10m', 3, 3, '0s', true, 'hold')
                """,
                [.text(kind)]
            )
            try await database.query("insert into breakwater.circuit (kind) values ($1)", [.text(kind)])
        }
    }

    @Test("counts no jobs that wait behind an open circuit, even 10,000, and counts as many probes as it admits")
    func openCircuit() async throws {
        try await withTestDatabase { database in
            try await handle(database, "up", "down")
            try await database.insert(25, kind: "up")
            try await database.insert(10_000, kind: "down")
            #expect(try await figure(database) == 10_025)
            try await database.query("select breakwater.open_circuit('down', 'a test')")
            #expect(try await figure(database) == 25)
            #expect(try await held(database, "down") == "0 0 10000 circuit_open")
            try await database.query("select breakwater.reset_circuit('down', 'a test')")
            #expect(try await figure(database) == 10_025)

            // When the breaker opens the circuit, it also sets the time of the probes. That needs a worker, so the test
            // writes the row instead.
            try await database.query(
                "update breakwater.circuit set state = 'open', retry_at = now() + interval '1 minute' where kind = 'down'"
            )
            #expect(try await figure(database) == 25)
            try await database.query(
                "update breakwater.circuit set retry_at = now() - interval '1 second' where kind = 'down'"
            )
            #expect(try await figure(database) == 28)
            try await database.query(
                "update breakwater.circuit set state = 'half_open', retry_at = null where kind = 'down'"
            )
            #expect(try await held(database, "down") == "3 0 9997 circuit_half_open")
        }
    }

    @Test("counts jobs that are due or run, and none that are paused, not due, or without a handler")
    func others() async throws {
        try await withTestDatabase { database in
            try await handle(database, "k", "paused")
            try await database.insert(5, kind: "k")
            try await database.insert(7, kind: "paused")
            try await database.insert(9, kind: "misspelt")
            try await database.query(
                """
                insert into breakwater.job (kind, run_at)
                select 'k', now() + n * interval '1 hour' from generate_series(-3, 10) n where n <> 0
                """
            )
            try await database.query("select breakwater.pause_kind('paused', 'a test')")
            #expect(try await held(database, "k") == "8 0 0")
            #expect(try await held(database, "paused") == "0 0 7 paused")
            #expect(try await held(database, "misspelt") == "0 0 9 no_handler")
            try await database.query(
                "insert into breakwater.claim (lease, worker, last, floor, jobs) values (1, 1, 0, 0, '{1,2}')"
            )
            #expect(try await held(database, "k") == "6 2 0")
            try await database.query("select breakwater.resume_kind('paused')")
            #expect(try await figure(database) == 15)
            try await database.query("select breakwater.pause_queue('default', 'a test')")
            #expect(try await figure(database) == 2)
        }
    }

    @Test("counts jobs parked behind a key's circuit when that circuit lets them through")
    func keys() async throws {
        try await withTestDatabase { database in
            try await handle(database, "k")
            try await database.query("update breakwater.handler set key_path = '{host}' where kind = 'k'")
            try await database.query(
                """
                insert into breakwater.circuit (kind, key, state, retry_at) values ('k', 'h', 'open', now() + interval '1 hour')
                """
            )
            try await database.query(
                """
                insert into breakwater.job (kind, payload, parked, run_at)
                select 'k', '{"host": "h"}', 'h', 'infinity' from generate_series(1, 50)
                """
            )
            try await database.insert(4, kind: "k")
            #expect(try await held(database, "k") == "4 0 50 circuit_open")
            try await database.query("update breakwater.circuit set state = 'closed', retry_at = null where key = 'h'")
            #expect(try await figure(database) == 54)
        }
    }

    @Test("counts no further than its cap, even in several queues")
    func cap() async throws {
        try await withTestDatabase { database in
            try await handle(database, "a", "b")
            try await database.query(
                """
                insert into breakwater.job (queue, kind)
                select q, k from unnest(array['q1', 'q2']) q, unnest(array['a', 'b']) k, generate_series(1, 30)
                """
            )
            let rows = try await database.texts(
                "select concat_ws(' ', queue, kind, ready) from breakwater.workload(20) order by queue, kind"
            )
            #expect(rows == ["q1 a 20", "q1 b 20", "q2 a 20", "q2 b 20"])
        }
    }

    @Test("is readable by breakwater_monitor, which can read nothing else")
    func role() async throws {
        try await withTestDatabase { database in
            try await withLoginRole(database, memberOf: "breakwater_monitor") { role in
                let connection = try await database.connect(as: role)
                _ = try await connection.query("select * from breakwater.scaling")
                _ = try await connection.query("select * from breakwater.workload(5)")
                for refused in [
                    "select * from breakwater.job", "select * from breakwater.depth",
                    "select breakwater.enqueue('k')", "select * from breakwater.circuit",
                ] {
                    #expect(await postgresError { _ = try await connection.query(refused) }?.sqlState == "42501")
                }
                await connection.close()
            }
        }
    }
}
