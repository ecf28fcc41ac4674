import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import WorkerCommand

@Suite(
    "On a database, the command circuits",
    .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"),
    .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)")
)
struct CircuitCommandTests {
    /// Registers handlers and their circuits through `breakwater.register`, as a starting worker does.
    private func register(_ handlers: String, on database: TestDatabase) async throws -> Int {
        let policy = """
            {"timeout": "1 minute", "max_attempts": 3, "keep_results": "0", "circuit_enabled": true, "failure_rate": 0.5,
             "circuit_window": "1 minute", "minimum_calls": 20, "consecutive_failures": 10, "open_for": "30 seconds",
             "open_factor": 2, "open_cap": "10 minutes", "probes": 3, "successes_to_close": 2, "ramp": "0",
             "suspends_workers": true, "fallback": "hold"}
            """
        return try await database.number(
            """
            select breakwater.register('box-1', '1', '{default}', 10, 30,
                (select jsonb_agg($1::jsonb || h) from jsonb_array_elements($2::jsonb) h))
            """,
            [.jsonb(policy), .jsonb(handlers)]
        )
    }

    @Test("opens, closes and resets, and records who did it and why")
    func changes() async throws {
        try await withTestDatabase { database in
            let missing = try await database.worker("circuits", "open", "hook", "--reason", "x")
            #expect(missing.status == 1)
            #expect(missing.errors.contains("there is no circuit for the kind 'hook'"))
            try await database.makeCircuit(kind: "hook")

            let opened = try await database.worker("circuits", "open", "hook", "--reason", "stop it", "--for", "1h")
            #expect(opened.output.hasPrefix("The circuit of hook is open, until "), "\(opened.errors)")
            let list: [[String: Any]] = try await database.worker("circuits", "--json").json()
            #expect(list.first?["state"] as? String == "open")
            #expect(list.first?["override_actor"] as? String == Explanation.systemUser)
            #expect(list.first?["reason"] as? String == "stop it")

            let closed = try await database.worker("circuits", "close", "hook", "--reason", "go", "--actor", "bob")
            #expect(closed.output == "The circuit of hook is closed.\n", "\(closed.errors)")
            let reset: [String: Any] = try await database.worker(
                "circuits",
                "reset",
                "hook",
                "--reason",
                "as before",
                "--json"
            ).json()
            #expect(reset["state"] as? String == "closed")
            #expect(reset["override"] is NSNull)

            let shown = try await database.worker("circuits", "show", "hook")
            for part in ["closed\n", "stop it", "go", "as before", "bob", "HISTORY"] {
                #expect(shown.output.contains(part), "\(part) is missing in\n\(shown.output)")
            }
        }
    }

    @Test(
        "switches off and observes, until a time",
        arguments: [("disable", "disabled"), ("observe", "metrics_only"), ("close", "closed"), ("open", "open")]
    )
    func until(command: String, override: String) async throws {
        try await withTestDatabase { database in
            try await database.makeCircuit(kind: "hook")
            let changed: [String: Any] = try await database.worker(
                "circuits",
                command,
                "hook",
                "--reason",
                "r",
                "--until",
                "2100-01-31T08:00:00Z",
                "--json"
            ).json()
            #expect(changed["override"] as? String == override)
            #expect(changed["override_until"] as? String == "2100-01-31T08:00:00.000Z")
            let past = try await database.worker(
                "circuits",
                command,
                "hook",
                "--reason",
                "r",
                "--until",
                "2000-01-31T08:00:00Z"
            )
            #expect(past.status == 64)
            #expect(past.errors.contains("is in the past"), "\(past.errors)")
        }
    }

    @Test("names the circuit of a key, and says when there is none")
    func keys() async throws {
        try await withTestDatabase { database in
            _ = try await register(#"[{"kind": "hook", "key_path": ["host"]}]"#, on: database)
            try await database.makeCircuit(kind: "hook", key: "a.example")
            let opened = try await database.worker(
                "circuits",
                "open",
                "hook",
                "--key",
                "a.example",
                "--reason",
                "r",
                "--actor",
                "ada"
            )
            #expect(opened.output == "The circuit of hook [a.example] is open.\n", "\(opened.errors)")
            try await database.query(
                "insert into breakwater.job (kind, payload, parked, run_at) values ('hook', '{}', 'a.example', 'infinity')"
            )
            let list = try await database.worker("circuits")
            #expect(list.output.contains("hook [a.example]"), "\(list.output)\(list.errors)")
            #expect(list.output.contains("open by ada"))
            let shown: [String: Any] = try await database.worker(
                "circuits",
                "show",
                "hook",
                "--key",
                "a.example",
                "--json"
            ).json()
            let circuit = try #require(shown["circuit"] as? [String: Any])
            #expect(circuit["waiting"] as? Int == 1)
            #expect((shown["transitions"] as? [Any])?.count == 1)
            #expect(
                try await database.worker("circuits", "show", "hook").output.contains(/state: +closed/)
            )
            let missing = try await database.worker("circuits", "show", "hook", "--key", "b.example")
            #expect(missing.status == 1)
            #expect(missing.errors.contains("no circuit for the key 'b.example' of the kind 'hook'"))
            // Without a key, the history is that of all keys.
            let history: [[String: Any]] = try await database.worker("circuits", "history", "hook", "--json").json()
            #expect(history.map { $0["key"] as? String } == ["a.example"])
        }
    }

    @Test("finds a shared circuit by its name, and by a kind that shares it")
    func shared() async throws {
        try await withTestDatabase { database in
            _ = try await register(
                """
                [{"kind": "charge", "shared_key": "payments"}, {"kind": "refund", "shared_key": "payments"},
                 {"kind": "mail"}]
                """,
                on: database
            )
            try await database.query("insert into breakwater.job (kind) values ('charge'), ('refund'), ('mail')")
            let byName = try await database.worker("circuits", "open", "payments", "--reason", "r", "--actor", "ada")
            #expect(
                byName.output == "The circuit of payments (shared by charge, refund) is open.\n",
                "\(byName.errors)"
            )
            let byKind: [String: Any] = try await database.worker("circuits", "show", "refund", "--json").json()
            let circuit = try #require(byKind["circuit"] as? [String: Any])
            #expect(circuit["name"] as? String == "payments")
            #expect(circuit["kind"] as? String == "*")
            #expect(circuit["waiting"] as? Int == 2)
            // The kinds' own circuits decide nothing, so they are not shown.
            let list: [[String: Any]] = try await database.worker("circuits", "--json").json()
            #expect(list.map { $0["name"] as? String } == ["mail", "payments"])
            #expect(
                try await database.worker("circuits", "reset", "*", "--key", "payments", "--reason", "r").status == 0
            )
            let history: [[String: Any]] = try await database.worker("circuits", "history", "charge", "--json").json()
            #expect(history.map { $0["name"] as? String } == ["payments", "payments"])
        }
    }

    @Test("shows the window's counts beside its thresholds, the probes, and the suspended workers")
    func depth() async throws {
        try await withTestDatabase { database in
            let worker = try await register(
                #"[{"kind": "hook", "slow_rate": 0.25}, {"kind": "idle", "failure_rate": null}]"#,
                on: database
            )
            try await database.query(
                """
                insert into breakwater.tally (kind, key, generation, slot, worker, succeeded, failed, slow, retries,
                                              trailing_failures, failing_since, last_success_at)
                values ('hook', '', 1, now(), $1 + 1, 6, 2, 1, 0, 2, now(), now() - interval '1 second')
                """,
                [.int8(Int64(worker))]
            )
            try await database.query(
                """
                insert into breakwater.suspension (kind, key, worker, since, until, times, reason)
                values ('hook', '', $1, now(), now() + interval '1 hour', 2, 'it alone fails')
                """,
                [.int8(Int64(worker))]
            )
            let list = try await database.worker("circuits")
            for part in ["25%/50%", "13%/25%", "-/off", "SUSPENDED WORKERS", "box-1", "in 59m", "it alone fails"] {
                #expect(list.output.contains(part), "\(part) is missing in\n\(list.output)\(list.errors)")
            }
            let circuits: [[String: Any]] = try await database.worker("circuits", "--json").json()
            let hook = try #require(circuits.first)
            #expect(hook["failure_rate"] as? Double == 0.25)
            #expect(hook["failure_threshold"] as? Double == 0.5)
            #expect(hook["slow_rate"] as? Double == 0.125)
            #expect(hook["slow_threshold"] as? Double == 0.25)
            #expect(hook["calls"] as? Int == 8)
            #expect(hook["minimum_calls"] as? Int == 20)
            #expect(hook["failures_in_a_row"] as? Int == 2)
            #expect((hook["suspended_workers"] as? [[String: Any]])?.first?["name"] as? String == "box-1")
            #expect(try await database.worker("status").output.contains("SUSPENDED WORKERS"))

            try await database.query(
                "update breakwater.circuit set state = 'open', retry_at = now() + interval '1 hour' where kind = 'hook'"
            )
            #expect(try await database.worker("circuits").output.contains("in 59m"))
            try await database.query("update breakwater.circuit set state = 'half_open' where kind = 'hook'")
            try await database.query(
                "insert into breakwater.probe values (1, 1, 'hook', '', 1, now() + interval '1 hour')"
            )
            #expect(try await database.worker("circuits").output.contains("1/3 out"))
            let shown = try await database.worker("circuits", "show", "hook")
            #expect(shown.output.contains("1/3 out, 0/2 succeeded"), "\(shown.output)")
        }
    }

    @Test("shows the history of all circuits, the newest first")
    func history() async throws {
        try await withTestDatabase { database in
            #expect(try await database.worker("circuits", "history").output == "There were no transitions yet.\n")
            for kind in ["a", "b"] { try await database.makeCircuit(kind: kind) }
            for kind in ["a", "b", "a"] {
                try await database.query("select breakwater.open_circuit($1, 'r', actor => 'ada')", [.text(kind)])
            }
            let all: [[String: Any]] = try await database.worker("circuits", "history", "--json").json()
            #expect(all.map { $0["name"] as? String } == ["a", "b", "a"])
            #expect(all.first?["actor"] as? String == "ada")
            let limited = try await database.worker("circuits", "history", "--limit", "1")
            #expect(limited.output.split(separator: "\n").count == 2)
            #expect(limited.errors == "Only the newest 1 are shown; --limit shows more.\n")
            let missing = try await database.worker("circuits", "history", "c")
            #expect(missing.status == 1)
        }
    }

    @Test("may be read and changed by breakwater_admin")
    func admin() async throws {
        try await withTestDatabase { database in
            _ = try await register(#"[{"kind": "hook"}]"#, on: database)
            try await database.query("insert into breakwater.job (kind) values ('hook')")
            try await database.withRole("breakwater_admin") { url in
                for command in [
                    ["circuits"], ["circuits", "show", "hook"], ["circuits", "history"], ["job", "1"], ["status"],
                    ["circuits", "disable", "hook", "--reason", "r"], ["pause", "--kind", "hook", "--reason", "r"],
                    ["resume", "--kind", "hook"], ["cancel", "1"], ["dead-letters", "show", "1"],
                ] {
                    let ending = try await WorkerBinary.run(command + ["--database", url])
                    #expect(ending.status == 0, "\(command): \(ending.errors)")
                }
            }
        }
    }
}
