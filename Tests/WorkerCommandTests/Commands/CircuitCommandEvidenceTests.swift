import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import WorkerCommand

@Suite(
    "On a database, the reasons that the command circuits shows",
    .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"),
    .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)")
)
struct CircuitCommandEvidenceTests {
    /// Writes transitions as the breaker does: an older opening, and a newer one with a round of probes.
    private func writeHistory(_ database: TestDatabase, kind: String = "hook") async throws {
        try await database.makeCircuit(kind: kind)
        let opening = """
            {"failures": [{"name": "http.500", "count": 9}, {"name": "http.timeout", "count": 1}], "repeats": 2,
             "examples": [{"job": 12, "name": "http.timeout", "message": "no answer", "at": "2026-01-02T03:04:05.25+00:00"},
                          {"job": 11, "name": "http.500", "at": "2026-01-02T04:04:04+01:00"}],
             "workers": [{"worker": 5, "name": "box-5", "count": 8}, {"worker": 6, "count": 2}],
             "common_value": {"path": "$.account", "value": "x", "failed": 60, "of_failed": 60, "others": 0, "of_others": 100}}
            """
        let round = """
            {"probes": [{"job": 21, "outcome": "unavailable", "name": "http.503", "message": "not yet", "worker": 5,
                         "at": "2026-01-02T03:05:06+00:00"},
                        {"job": 22, "outcome": "succeeded", "worker": 6, "at": "2026-01-02T03:05:07+00:00"}]}
            """
        try await database.query(
            """
            insert into breakwater.circuit_transition
                   (kind, key, generation, from_state, to_state, reason, evidence, at)
            values ($1, '', 2, 'closed', 'open', '3 failures in a row', '{"failures": [{"name": "old", "count": 3}]}',
                    '2026-01-01 00:00:00Z'),
                   ($1, '', 3, 'half_open', 'closed', '2 probes succeeded', '{"probes": []}', '2026-01-01 00:01:00Z'),
                   ($1, '', 4, 'closed', 'open', '10 failures in a row', $2, '2026-01-02 03:04:06Z'),
                   ($1, '', 6, 'half_open', 'open', '1 of 2 probes failed', $3, '2026-01-02 03:05:08Z')
            """,
            [.text(kind), .jsonb(opening), .jsonb(round)]
        )
        try await database.query(
            """
            insert into breakwater.worker (id, name, version, queues, kinds, concurrency, lease)
            overriding system value values (5, 'box-5', '1', '{default}', '{hook}', 1, interval '1 hour')
            """
        )
    }

    @Test(
        "show prints the failures by name, examples, workers, the common value, and the verdicts of the latest probes"
    )
    func text() async throws {
        try await withTestDatabase { database in
            try await writeHistory(database)
            let shown = try await database.worker("circuits", "show", "hook")
            #expect(shown.status == 0, "\(shown.errors)")
            for line in [
                "LATEST OPENING", "at: +2026-01-02 03:04:06Z", "why: +10 failures in a row",
                #"failures: +http\.500 \(9\), http\.timeout \(1\)"#, "not counted: +2 of these",
                #"seen by: +box-5 \(8\), worker 6 \(2\)"#,
                #"common value: +60 of 60 failed jobs have \$\.account = x, and 0 of 100 jobs that wait: "#
                    + #"`key: \$\.account` would keep the others running\."#,
                " 12 +2026-01-02 03:04:05Z +http.timeout: no answer", " 11 +2026-01-02 03:04:04Z +http.500",
                "LATEST PROBES", "verdict: +open at 2026-01-02 03:05:08Z: 1 of 2 probes failed",
                " 21 +2026-01-02 03:05:06Z +unavailable +box-5 +http.503: not yet",
                " 22 +2026-01-02 03:05:07Z +succeeded +6, gone",
                // Older openings are shown in short.
                #"10 failures in a row: http\.500 \(9\), http\.timeout \(1\)"#, #"3 failures in a row: old \(3\)"#,
                #"1 of 2 probes failed: http\.503 \(1\), succeeded \(1\)"#,
            ] {
                #expect(try shown.output.contains(Regex(line)), "\(line) is missing in\n\(shown.output)")
            }
            let history = try await database.worker("circuits", "history", "hook").output
            #expect(history.contains("10 failures in a row: http.500 (9), http.timeout (1)\n"), "\(history)")
        }
    }

    @Test("show --json has the same, under keys that are always there")
    func json() async throws {
        try await withTestDatabase { database in
            try await writeHistory(database)
            let shown: [String: Any] = try await database.worker("circuits", "show", "hook", "--json").json()
            #expect(Set(shown.keys) == ["circuit", "opening", "round", "transitions"])
            let opening = try #require(shown["opening"] as? [String: Any])
            #expect(
                Set(opening.keys) == [
                    "at", "reason", "actor", "failures", "repeats", "examples", "workers", "common_value",
                ]
            )
            #expect(opening["at"] as? String == "2026-01-02T03:04:06.000Z")
            #expect(opening["reason"] as? String == "10 failures in a row")
            #expect(opening["actor"] is NSNull)
            #expect(opening["repeats"] as? Int == 2)
            let failures = try #require(opening["failures"] as? [[String: Any]])
            #expect(failures.map { $0["name"] as? String } == ["http.500", "http.timeout"])
            #expect(failures.map { $0["count"] as? Int } == [9, 1])
            let examples = try #require(opening["examples"] as? [[String: Any]])
            #expect(examples.map { $0["job"] as? Int } == [12, 11])
            #expect(examples[0]["at"] as? String == "2026-01-02T03:04:05.250Z")
            #expect(examples[0]["message"] as? String == "no answer")
            #expect(examples[1]["message"] is NSNull)
            let workers = try #require(opening["workers"] as? [[String: Any]])
            #expect(workers.map { $0["count"] as? Int } == [8, 2])
            #expect(workers[0]["name"] as? String == "box-5")
            #expect(workers[1]["name"] is NSNull)
            let commonValue = try #require(opening["common_value"] as? [String: Any])
            #expect(commonValue["path"] as? String == "$.account")
            #expect(commonValue["value"] as? String == "x")
            #expect(
                ["failed", "of_failed", "others", "of_others"].map { commonValue[$0] as? Int } == [60, 60, 0, 100]
            )
            let round = try #require(shown["round"] as? [String: Any])
            #expect(round["to"] as? String == "open")
            #expect(round["reason"] as? String == "1 of 2 probes failed")
            let probes = try #require(round["probes"] as? [[String: Any]])
            #expect(probes.map { $0["outcome"] as? String } == ["unavailable", "succeeded"])
            #expect(probes[0]["worker_name"] as? String == "box-5")
            #expect(probes[1]["name"] is NSNull)
            let transitions = try #require(shown["transitions"] as? [[String: Any]])
            #expect(transitions[1]["evidence"] as? String == "http.500 (9), http.timeout (1)")
            #expect(transitions[1]["reason"] as? String == "10 failures in a row")

            try await database.makeCircuit(kind: "new")
            let new: [String: Any] = try await database.worker("circuits", "show", "new", "--json").json()
            #expect(new["opening"] is NSNull && new["round"] is NSNull)
            #expect(try await database.worker("circuits", "show", "new").output.contains("LATEST") == false)
        }
    }

    @Test("show names no common value that the circuit's key already tells apart, and shows a round that is under way")
    func keyAndRound() async throws {
        try await withTestDatabase { database in
            try await writeHistory(database)
            try await database.query(
                """
                select breakwater.register('box-1', '1', '{default}', 10, 30, jsonb_build_array(jsonb_build_object(
                    'kind', 'hook', 'timeout', '1 minute', 'max_attempts', 3, 'keep_results', '0', 'circuit_enabled', true,
                    'circuit_window', '1 minute', 'minimum_calls', 20, 'open_for', '30 seconds', 'open_factor', 2,
                    'open_cap', '10 minutes', 'probes', 3, 'successes_to_close', 2, 'ramp', '0', 'suspends_workers', true,
                    'fallback', 'hold', 'key_path', jsonb_build_array('account'))))
                """
            )
            try await database.query(
                "update breakwater.circuit set state = 'half_open', generation = 7 where kind = 'hook'"
            )
            let before: [String: Any] = try await database.worker("circuits", "show", "hook", "--json").json()
            #expect((before["opening"] as? [String: Any])?["common_value"] is NSNull)
            #expect((before["round"] as? [String: Any])?["to"] as? String == "open", "none of this round has ended")
            try await database.query(
                """
                insert into breakwater.probe_result (kind, key, generation, job, worker, outcome, name, at)
                values ('hook', '', 7, 31, 5, 'failed', 'http.500', now())
                """
            )
            let during: [String: Any] = try await database.worker("circuits", "show", "hook", "--json").json()
            let round = try #require(during["round"] as? [String: Any])
            #expect(round["to"] is NSNull && round["at"] is NSNull)
            #expect((round["probes"] as? [[String: Any]])?.first?["job"] as? Int == 31)
            let text = try await database.worker("circuits", "show", "hook").output
            #expect(text.contains("none yet") && !text.contains("common value"), "\(text)")
        }
    }

    @Test("show names the user who opened it by hand, and nothing of the outage before")
    func byHand() async throws {
        try await withTestDatabase { database in
            try await writeHistory(database)
            try await database.query("update breakwater.circuit set generation = 6 where kind = 'hook'")
            try await database.query("select breakwater.open_circuit('hook', 'a move', actor => 'ada')")
            let shown: [String: Any] = try await database.worker("circuits", "show", "hook", "--json").json()
            let opening = try #require(shown["opening"] as? [String: Any])
            #expect(opening["actor"] as? String == "ada" && opening["reason"] as? String == "a move")
            #expect((opening["failures"] as? [Any])?.isEmpty == true)
            #expect(shown["round"] is NSNull)
            #expect(
                try await database.worker("circuits", "show", "hook").output.contains(/by hand: +ada/)
            )
        }
    }

    @Test("show describes a real outage: its jobs, its worker, and the account that fails")
    func outage() async throws {
        try await withTestDatabase { database in
            let file = """
                name: box-9
                concurrency: 5
                shutdown_grace: 0s
                handlers:
                  hook:
                    exec: { command: [sh, -c, "grep -q '\\"acme\\"' || exec sleep 600; echo too many requests >&2; exit 7"], kill_after: 0s }
                    timeout: 20m
                    retry: { base: 10m, cap: 10m }
                    circuit: { consecutive_failures: 5, suspend_workers: false, open_for: 10m }
                """
            try await database.running(file) { _ in
                try await waitUntil("the circuit is there") {
                    try await database.number("select count(*) from breakwater.circuit") == 1
                }
                try await database.query(
                    """
                    insert into breakwater.job (kind, priority, payload)
                    select 'hook', case when n <= 5 then 0 else 5 end,
                           jsonb_build_object('account', case when n <= 5 then 'acme' else 'a' || n end, 'n', n)
                      from generate_series(1, 40) n
                    """
                )
                try await waitUntil("it has opened") {
                    try await database.number(
                        "select count(*) from breakwater.circuit_transition where to_state = 'open'"
                    ) > 0
                }
                let shown = try await database.worker("circuits", "show", "hook")
                for line in [
                    "why: +5 failures in a row", #"failures: +exit\.7 \(5\)"#, #"seen by: +box-9 \(5\)"#,
                    #"common value: +5 of 5 failed jobs have \$\.account = acme, and 0 of \d+ jobs that wait"#,
                    "exit\\.7: .*too many requests",
                ] {
                    #expect(try shown.output.contains(Regex(line)), "\(line) is missing in\n\(shown.output)")
                }
            }
        }
    }

    @Test("probe makes an open circuit half-open, confirms it, and is refused in other states with advice")
    func probe() async throws {
        try await withTestDatabase { database in
            try await database.makeCircuit(kind: "hook")
            let closed = try await database.worker("circuits", "probe", "hook", "--reason", "it is back")
            #expect(closed.status == 64)
            #expect(closed.errors.contains("the circuit of 'hook' is closed"), "\(closed.errors)")
            #expect(closed.errors.contains("Only an open circuit is probed."))
            try await database.query("select breakwater.open_circuit('hook', 'a move', actor => 'ada')")
            let held = try await database.worker("circuits", "probe", "hook", "--reason", "it is back")
            #expect(held.status == 64)
            #expect(held.errors.contains("held open by ada") && held.errors.contains("Reset it"), "\(held.errors)")

            try await database.query(
                """
                update breakwater.circuit
                   set override = null, override_actor = null, reopened = 4, retry_at = now() + interval '1 hour'
                """
            )
            let probed = try await database.worker(
                "circuits",
                "probe",
                "hook",
                "--reason",
                "it is back",
                "--actor",
                "bob"
            )
            #expect(probed.output == "The circuit of hook is half-open, and is probed now.\n", "\(probed.errors)")
            let circuit = "select concat_ws(' ', state, reopened, reason) from breakwater.circuit"
            #expect(try await database.text(circuit) == "half_open 4 it is back")
            #expect(
                try await database.text("select actor || action from breakwater.audit order by id desc limit 1")
                    == "bobcircuit.probe"
            )
            #expect(try await database.worker("circuits", "probe", "none", "--reason", "x").status == 1)

            try await database.makeCircuit(kind: "hook", key: "a")
            try await database.query("update breakwater.circuit set state = 'open' where key = 'a'")
            let ofKey: [String: Any] = try await database.worker(
                "circuits",
                "probe",
                "hook",
                "--key",
                "a",
                "--reason",
                "r",
                "--json"
            ).json()
            #expect(ofKey["state"] as? String == "half_open" && ofKey["key"] as? String == "a")
        }
    }
}
