import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import BreakwaterDashboard

@Suite("The dashboard's page of a circuit", .enabled(if: TestDatabase.isAvailable))
struct CircuitPageTests {
    private let page = "kind=k"

    /// Writes an opening and a round of probes with their evidence, after older transitions.
    private func writeEvidence(_ database: TestDatabase) async throws {
        try await database.query(
            """
            insert into breakwater.circuit_transition (kind, key, generation, from_state, to_state, reason, evidence, at)
            values ('k', '', 100, 'closed', 'open', '3 failures in a row', '{"failures": [{"name": "old", "count": 3}]}', now()),
                   ('k', '', 102, 'closed', 'open', '10 failures in a row', $1, now()),
                   ('k', '', 104, 'half_open', 'open', '1 of 2 probes failed', $2, now())
            """,
            [
                .jsonb(
                    """
                    {"failures": [{"name": "http.500", "count": 9}, {"name": "http.timeout", "count": 1}], "repeats": 2,
                     "examples": [{"job": 12, "name": "http.500", "message": "it broke", "at": "2026-01-02T03:04:05.25+00:00"}],
                     "workers": [{"worker": 1, "name": "box-1", "count": 8}, {"worker": 6, "count": 2}],
                     "common_value": {"path": "$.account", "value": "x", "failed": 60, "of_failed": 60, "others": 0,
                                      "of_others": 100}}
                    """
                ),
                .jsonb(
                    """
                    {"probes": [{"job": 21, "outcome": "unavailable", "name": "http.503", "message": "not yet", "worker": 1,
                                 "at": "2026-01-02T03:05:06+00:00"}, {"job": 22, "outcome": "succeeded", "worker": 6}]}
                    """
                ),
            ]
        )
    }

    @Test("shows why it opened, which workers saw it, what the failed jobs have in common, and how the probes ended")
    func evidence() async throws {
        try await withSite { test in
            try await SiteTests.furnish(test.database)
            var bob = try await test.logIn("bob")
            #expect(await bob.get("/circuits/one", page).text.contains("id=\"probes\"") == false)
            try await writeEvidence(test.database)
            let text = await bob.get("/circuits/one", page).text
            for part in [
                "Why it opened", "10 failures in a row</span>", "Failures: http.500 (9), http.timeout (1)",
                "2 of these are not counted", "Seen by box-1 (8), worker 6 (2)",
                "60 of 60 failed jobs have $.account = x, and 0 of 100 jobs that wait: "
                    + "<code>key: $.account</code> would keep the others running.",
                "<a href=\"/jobs/12\">Job 12</a>", "http.500: it broke", "The latest probes",
                "1 of 2 probes failed</span>",
                "<a href=\"/jobs/21\">Job 21</a>", ">unavailable</span>", "http.503: not yet", ">succeeded</span>",
                "on worker 6",
                // These lines are in the history.
                "10 failures in a row: http.500 (9), http.timeout (1)", "3 failures in a row: old (3)",
                "1 of 2 probes failed: http.503 (1), succeeded (1)",
            ] {
                #expect(text.contains(part), "\(part) is missing in \(text)")
            }
            try await test.database.query("update breakwater.handler set key_path = '{account}'")
            let keyed = await bob.get("/circuits/one", page).text
            #expect(keyed.contains("Failures: http.500 (9)") && !keyed.contains("$.account"))
        }
    }

    @Test("shows a long message only as far as the page of dead letters does, and as text")
    func longMessage() async throws {
        try await withSite { test in
            try await SiteTests.furnish(test.database)
            let message = "<b>" + String(repeating: "x", count: 500)
            try await SiteTests.furnishEvidence(test.database, text: message)
            var bob = try await test.logIn("bob")
            let text = await bob.get("/circuits/one", page).text
            let why = try #require(text.firstMatch(of: /<ul class="plain lines">.*?<\/ul>/.dotMatchesNewlines()))
            #expect(why.0.contains("&lt;b&gt;xxx") && !why.0.contains("<b>"))
            #expect(why.0.matches(of: /x{250,}/).allSatisfy { $0.0.count <= 300 })
        }
    }

    @Test("has a button that probes an open circuit now, for operators, with a reason")
    func probe() async throws {
        try await withSite { test in
            try await SiteTests.furnish(test.database)
            var ann = try await test.logIn("ann")
            var bob = try await test.logIn("bob")
            let form = ["change": "probe", "kind": "k", "key": "", "reason": "it is back", "for": "900"]
            let state = "select concat_ws(' ', state, reopened) from breakwater.circuit where kind = 'k'"
            // The button is missing while a user holds the circuit open, because it has to be reset instead.
            #expect(await ann.get("/circuits/one", page).text.contains("Probe now") == false)
            let held = await ann.post("/circuits/change", form)
            #expect(held.status == 422 && held.text.contains("held open"), "\(held.text)")

            try await test.database.query(
                """
                update breakwater.circuit
                   set override = null, reopened = 3, retry_at = now() + interval '1 hour' where kind = 'k'
                """
            )
            #expect(await bob.get("/circuits/one", page).text.contains("Probe now") == false)
            #expect(await bob.post("/circuits/change", form).status == 403)
            #expect(try await test.database.text(state) == "open 3")
            let open = await ann.get("/circuits/one", page).text
            #expect(open.contains("Probe now"))
            let sheet = try #require(open.firstMatch(of: /id="act-probe".*?<\/details>/.dotMatchesNewlines())).0
            #expect(sheet.contains("name=\"reason\"") && !sheet.contains("name=\"for\""), "it lasts until nothing")
            #expect(await ann.post("/circuits/change", form.merging(["reason": ""]) { $1 }).status == 422)
            #expect(try await test.database.text(state) == "open 3")

            #expect(await ann.post("/circuits/change", form).status == 303)
            #expect(try await test.database.text(state) == "half_open 3")
            #expect(
                try await test.database.text(
                    "select concat_ws('|', actor, action, reason) from breakwater.audit order by id desc limit 1"
                ) == "ann|circuit.probe|it is back"
            )
            let after = await ann.get("/circuits/one", page).text
            #expect(after.contains("is half-open, and is probed now") && !after.contains("Probe now"))
        }
    }
}
