import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import BreakwaterAdmin
@testable import WorkerCommand

@Suite(
    "worker jobs",
    .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"),
    .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)")
)
struct JobsCommandTests {
    private let configuration = """
        poll_interval: 50ms
        handlers:
          hook: { exec: { command: [cat] }, keep_results: 1h, history: { keep: 7d, payload: true, key: $.customer } }
          plain: { exec: { command: [cat] } }
        """

    private func states(_ ending: WorkerBinary.Ending) throws -> [String] {
        try ending.json(as: [[String: Any]].self).map { "\($0["id"] ?? "") \($0["state"] ?? "")" }
    }

    @Test("lists what waits and what has ended, and answers whether customer 17's webhook went out")
    func list() async throws {
        try await withTestDatabase { database in
            try await database.query(
                """
                insert into breakwater.job (kind, payload) values ('hook', '{"customer": 16}'), ('hook', '{"customer": 17}'),
                    ('plain', '{"customer": 17}')
                """
            )
            try await database.running(configuration) { _ in
                try await waitUntil("all jobs are done") {
                    try await database.number("select count(*) from breakwater.job") == 0
                }
            }
            try await database.query(
                """
                insert into breakwater.job (kind, payload, run_at)
                values ('hook', '{"customer": "17"}', '2999-01-01Z'), ('hook', '{"customer": 16}', '2999-01-01Z'),
                       ('plain', '{"customer": 17}', null)
                """
            )
            try await database.query("select breakwater.cancel(6)")
            // The two that succeeded may have ended in either order.
            let all = try states(try await database.worker("jobs", "--json"))
            #expect(all.prefix(3) == ["5 scheduled", "4 scheduled", "6 dead_letter"])
            #expect(all.dropFirst(3).sorted() == ["1 succeeded", "2 succeeded"])
            let customer = try await database.worker("jobs", "--payload", "$.customer=17", "--json")
            #expect(try states(customer) == ["4 scheduled", "6 dead_letter", "2 succeeded"], "\(customer.errors)")
            #expect(
                try states(try await database.worker("jobs", "list", "--key", "17", "--json"))
                    == ["4 scheduled", "2 succeeded"]
            )
            #expect(
                try states(try await database.worker("jobs", "--state", "dead-letter", "--since", "1h", "--json"))
                    == ["6 dead_letter"]
            )
            #expect(try states(try await database.worker("jobs", "--until", "1h", "--json")) == [])
            let table = try await database.worker("jobs", "--kind", "hook", "--state", "succeeded", "--limit", "1")
            #expect(table.output.contains("succeeded") && table.output.contains("\"customer\""))
            #expect(table.errors.contains("Only 1 are shown"))
            #expect(try await database.worker("jobs", "--kind", "no").output == "There are no such jobs.\n")
            // The job itself.
            let job: [String: Any] = try await database.worker("job", "2", "--json").json()
            #expect(job["state"] as? String == "succeeded" && job["key"] as? String == "17")
            #expect(job["payload"] as? [String: Int] == ["customer": 17])
            #expect(job["result"] != nil && job["took"] is Double)
            #expect(try await database.worker("job", "2").output.contains("succeeded"))
            #expect(try await database.worker("cancel", "2").errors.contains("it has ended already: succeeded"))
        }
    }

    @Test("edits jobs, and puts a dead letter back with another payload")
    func edit() async throws {
        try await withTestDatabase { database in
            try await database.query("insert into breakwater.job (kind) values ('hook'), ('hook')")
            let edited = try await database.worker(
                "jobs",
                "edit",
                "1",
                "--payload",
                #"{"to": "b"}"#,
                "--max-attempts",
                "4",
                "--run-at",
                "2999-01-31T08:00:00Z"
            )
            #expect(edited.output == "Job 1 is changed.\n", "\(edited.errors)")
            #expect(
                try await database.text(
                    "select concat_ws(' ', payload, max_attempts, run_at = '2999-01-31 08:00Z') from breakwater.job where id = 1"
                ) == #"{"to": "b"} 4 t"#
            )
            for (arguments, message) in [
                (["1"], "Say what to change"), (["1", "--payload", "{to: b}"], "--payload is not a JSON value"),
                (["1", "--max-attempts", "0"], "--max-attempts 0 is not allowed"),
                (["9", "--payload", "1"], "nothing is known of a job 9"),
            ] {
                let refused = try await WorkerBinary.run(
                    ["jobs", "edit"] + arguments,
                    environment: ["DATABASE_URL": database.url]
                )
                #expect(refused.status != 0 && refused.errors.contains(message), "\(refused.errors)")
            }
            try await database.query("select breakwater.cancel(2)")
            let dead = try await database.worker("jobs", "edit", "2", "--payload", "1")
            #expect(dead.errors.contains("worker dead-letters redrive 2 --payload"))
            let back = try await database.worker("dead-letters", "redrive", "2", "--payload", #"{"n": 2}"#)
            #expect(back.output == "1 dead letter was put back.\n", "\(back.errors)")
            #expect(try await database.text("select payload::text from breakwater.job where id = 2") == #"{"n": 2}"#)
            let many = try await database.worker("dead-letters", "redrive", "--all", "--payload", "1")
            #expect(many.errors.contains("--payload goes with the id of one dead letter"))
        }
    }

    @Test("cancels and hurries jobs in bulk, only says how many with --dry-run, and refuses to change all")
    func bulk() async throws {
        try await withTestDatabase { database in
            try await database.query(
                """
                insert into breakwater.job (kind, payload, run_at)
                select 'hook', jsonb_build_object('campaign', i % 2), '2999-01-01Z' from generate_series(1, 2500) i
                """
            )
            let dry = try await database.worker(
                "jobs",
                "cancel",
                "--kind",
                "hook",
                "--payload",
                "$.campaign=1",
                "--dry-run"
            )
            #expect(dry.output == "1250 jobs would be cancelled.\n", "\(dry.errors)")
            let some = try await database.worker(
                "jobs",
                "run-now",
                "--payload",
                "$.campaign=1",
                "--limit",
                "30",
                "--json"
            )
            #expect(try some.json(as: [String: Int].self) == ["changed": 30, "matched": 30, "left": 0])
            #expect(try await database.number("select count(*) from breakwater.job where run_at is null") == 30)
            let all = try await database.worker("jobs", "cancel", "--kind", "hook", "--reason", "wrong")
            #expect(all.output == "2500 jobs were cancelled.\n", "\(all.errors)")
            #expect(
                try await database.texts(
                    "select action || ' ' || (details ->> 'count') from breakwater.audit order by id"
                )
                    == ["jobs.run_now 30", "jobs.cancel 2500"]
            )
            let refused = try await database.worker("jobs", "cancel")
            #expect(refused.status == 64 && refused.errors.contains("Say which: --kind, --queue or --payload."))
        }
    }

    @Test("run-now says that the job still waits, and for what")
    func stillWaits() async throws {
        try await withTestDatabase { database in
            try await database.query("select breakwater.enqueue('hook', run_at => now() + interval '1 day')")
            try await database.query("select breakwater.pause_kind('hook', 'the template is wrong')")
            let ending = try await database.worker("run-now", "1")
            #expect(ending.status == 0 && ending.output == "Job 1 is made ready.\n")
            #expect(ending.errors.contains("Job 1 is ready, but still waits: the kind 'hook' is paused"))
        }
    }

    @Test(
        "takes a condition on the payload as a path and a value, or as an SQL/JSON path",
        arguments: [
            ("$.customer=17", "$.customer == 17 || $.customer == \"17\""), ("$.to=a@b.c", "$.to == \"a@b.c\""),
            ("$.a.b = x=y", "$.a.b == \"x=y\""), ("$.ok=true", "$.ok == true || $.ok == \"true\""),
            ("$.total > 100", "$.total > 100"), ("$.customer == 17", "$.customer == 17"),
            ("$.items[*] ? (@.n == 1)", "$.items[*] ? (@.n == 1)"), ("$.n >= 3", "$.n >= 3"),
            ("$.quote=\"q\"", "$.quote == \"\\\"q\\\"\""),
        ]
    )
    func condition(_ text: String, _ path: String) {
        #expect(PayloadCondition(argument: text)?.path == path)
    }
}
