import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import BreakwaterDashboard

@Suite("Acting from the dashboard", .enabled(if: TestDatabase.isAvailable))
struct ActionTests {
    /// The newest line of the audit log.
    private func last(_ database: TestDatabase) async throws -> String {
        try await database.text(
            "select concat_ws('|', actor, action, target, reason) from breakwater.audit order by id desc limit 1"
        )
    }

    @Test("forces a circuit open and closed and resets it, and records who did it and why")
    func circuits() async throws {
        try await withSite { test in
            try await SiteTests.furnish(test.database)
            var ann = try await test.logIn("ann")
            let state = "select concat_ws(',', state, override) from breakwater.circuit where kind = 'k'"
            for (change, becomes) in [
                ("close", "closed,closed"), ("open", "open,open"), ("reset", "closed"),
                ("observe", "closed,metrics_only"),
                ("disable", "closed,disabled"),
            ] {
                let answer = await ann.post(
                    "/circuits/change",
                    ["change": change, "kind": "k", "key": "", "reason": "because \(change)"]
                )
                #expect(answer.status == 303, "\(answer.text)")
                #expect(try await test.database.text(state) == becomes)
                #expect(try await last(test.database) == "ann|circuit.\(change)|k|because \(change)")
            }
            #expect(await ann.post("/circuits/change", ["change": "open", "kind": "k", "key": ""]).status == 422)
            #expect(
                await ann.post("/circuits/change", ["change": "open", "kind": "none", "key": "", "reason": "r"]).status
                    == 422
            )
            _ = await ann.post(
                "/circuits/change",
                ["change": "open", "kind": "k", "key": "", "reason": "r", "for": "900"]
            )
            #expect(
                try await test.database.number(
                    "select count(*) from breakwater.circuit where override_until between now() + '14 min' and now() + '16 min'"
                ) == 1
            )
        }
    }

    @Test("pauses and resumes queues and kinds")
    func pauses() async throws {
        try await withSite { test in
            var ann = try await test.logIn("ann")
            for scope in ["queue", "kind"] {
                _ = await ann.post("/queues/pause", ["scope": scope, "name": "x", "reason": "a move"])
                #expect(
                    try await test.database.text(
                        "select actor || reason from breakwater.pause where scope = $1",
                        [.text(scope)]
                    ) == "anna move"
                )
                #expect(try await last(test.database) == "ann|\(scope).pause|x|a move")
                _ = await ann.post("/queues/resume", ["scope": scope, "name": "x"])
                #expect(try await last(test.database) == "ann|\(scope).resume|x")
            }
            #expect(try await test.database.number("select count(*) from breakwater.pause") == 0)
        }
    }

    @Test("runs, pauses, resumes and removes schedules")
    func schedules() async throws {
        try await withSite { test in
            let database = test.database
            try await database.query(
                "select breakwater.set_schedule('s & t', cron => '0 3 * * *', time_zone => 'Europe/Berlin', kind => 'k', overlap => 'skip')"
            )
            var ann = try await test.logIn("ann")
            let list = await ann.get("/schedules").text
            #expect(list.contains("/schedules/one?name=s%20%26%20t") && list.contains("0 3 * * * Europe/Berlin"))
            let page = await ann.get("/schedules/one", "name=s%20%26%20t").text
            #expect(
                page.contains("s &amp; t") && page.contains("03:00:00 Europe/Berlin") && page.contains("None came yet.")
            )
            #expect(await ann.get("/schedules/one", "name=x").status == 404)
            let name = ["name": "s & t"]

            #expect(await ann.post("/schedules/run", name).header("location") == "/schedules/one?name=s%20%26%20t")
            #expect(try await database.number("select count(*) from breakwater.job") == 1)
            #expect(
                await ann.get("/schedules/one", "name=s%20%26%20t").text.contains("Job 1 of s &amp; t is enqueued.")
            )
            _ = await ann.post("/schedules/run", name)
            let after = await ann.get("/schedules/one", "name=s%20%26%20t").text
            #expect(after.contains("Nothing was added: job 1 of s &amp; t has not ended."))
            #expect(after.contains("run by hand: <a href=\"/jobs/1\">job 1</a>"))

            #expect(await ann.post("/schedules/pause", name).status == 422, "a reason is needed")
            _ = await ann.post("/schedules/pause", ["name": "s & t", "reason": "a move"])
            #expect(try await last(database) == "ann|schedule.pause|s & t|a move")
            #expect(await ann.get("/schedules").text.contains("paused by ann since"))
            #expect(await ann.get("/").text.contains(">s &amp; t</a> is paused: paused by ann since"))
            // Actions on something else of the same name do not take its place.
            try await database.query(
                "insert into breakwater.audit (actor, action, target) select 'bob', 'kind.pause', 's & t' from generate_series(1, 30)"
            )
            let paused = await ann.get("/schedules/one", "name=s%20%26%20t").text
            #expect(paused.contains("<code>schedule.pause</code>") && !paused.contains("kind.pause"))
            _ = await ann.post("/schedules/resume", name)
            #expect(try await last(database) == "ann|schedule.resume|s & t")
            #expect(await ann.post("/schedules/run", ["name": "x"]).status == 422)
            _ = await ann.post("/schedules/remove", ["name": "s & t", "reason": "over"])
            #expect(try await last(database) == "ann|schedule.remove|s & t|over")
            #expect(await ann.get("/schedules").text.contains("There are no schedules."))
        }
    }

    @Test("hurries, cancels and reorders jobs")
    func jobs() async throws {
        try await withSite { test in
            try await SiteTests.furnish(test.database)
            var ann = try await test.logIn("ann")
            _ = await ann.post("/jobs/2/run-now", [:])
            #expect(
                try await test.database.number("select count(*) from breakwater.job where id = 2 and run_at is null")
                    == 1
            )
            #expect(try await last(test.database) == "ann|job.run_now|job 2")
            _ = await ann.post("/jobs/2/priority", ["priority": "0", "reason": "urgent"])
            #expect(try await test.database.number("select priority from breakwater.job where id = 2") == 0)
            #expect(try await last(test.database) == "ann|job.priority|job 2|urgent")
            #expect(await ann.post("/jobs/2/priority", ["priority": "11"]).status == 422)
            _ = await ann.post("/jobs/2/cancel", ["reason": "not wanted"])
            #expect(
                try await test.database.text("select reason from breakwater.dead_letter where id = 2") == "cancelled"
            )
            #expect(try await last(test.database) == "ann|job.cancel|job 2|not wanted")
            #expect(await ann.get("/jobs/2").text.contains("not wanted"), "the job's own story tells of it")
        }
    }

    @Test("drains a worker, which then claims nothing, and lets it claim again")
    func workers() async throws {
        try await withSite { test in
            try await SiteTests.furnish(test.database)
            try await test.database.query(
                "select breakwater.resume_queue('k'), breakwater.reset_circuit('k', 'r'), breakwater.undrain_worker(1)"
            )
            let claim = """
                select coalesce(sum(cardinality(ids)), 0)
                  from breakwater.claim(1, '{default}', '{k}', '{5}', '{1}', '{5}', '{5}', 5, false)
                """
            var ann = try await test.logIn("ann")
            _ = await ann.post("/workers/1/drain", ["reason": "an upgrade"])
            #expect(try await last(test.database).hasPrefix("ann|worker.drain|"))
            #expect(try await test.database.number(claim) == 0)
            let beat = try await test.database.query("select alive, stopped from breakwater.beat(1, 'running', 0, 0)")
            #expect(try beat[0]["stopped"].stringArray() == ["k"], "what it holds and has not begun is given back")
            #expect(
                try await test.database.text("select state from breakwater.worker") == "draining",
                "a beat does not end it"
            )
            _ = await ann.post("/workers/1/undrain", [:])
            #expect(try await last(test.database).hasPrefix("ann|worker.undrain|"))
            #expect(try await test.database.number(claim) == 1)
        }
    }

    @Test("puts one dead letter back, and purges one")
    func oneDeadLetter() async throws {
        try await withSite { test in
            try await SiteTests.furnish(test.database)
            var ann = try await test.logIn("ann")
            let prepared = await ann.post("/dead-letters/prepare", ["action": "redrive", "id": "1000000"])
            #expect(prepared.status == 200 && prepared.text.contains("Redrive 1 job?"))
            #expect(
                try await test.database.number("select count(*) from breakwater.dead_letter") == 1,
                "nothing happens yet"
            )
            _ = await ann.post("/dead-letters/redrive", ["id": "1000000", "reason": "mended"])
            #expect(try await test.database.number("select count(*) from breakwater.job where id = 1000000") == 1)
            #expect(try await last(test.database) == "ann|dead_letter.redrive|job 1000000|mended")
            _ = await ann.post("/jobs/1000000/cancel", [:])
            _ = await ann.post("/dead-letters/purge", ["id": "1000000", "reason": "old"])
            #expect(try await last(test.database) == "ann|dead_letter.purge|job 1000000|old")
            #expect(try await test.database.number("select count(*) from breakwater.dead_letter") == 0)
            #expect(
                await ann.post("/dead-letters/purge", ["id": "1", "reason": ""]).status == 422,
                "a reason is needed"
            )
        }
    }

    private func bury(_ count: Int, _ kind: String, _ message: String, _ database: TestDatabase) async throws {
        try await database.query(
            """
            insert into breakwater.dead_letter (id, queue, kind, priority, payload, reason, attempt, errors, enqueued_at)
            select nextval('breakwater.job_position') + 5000000, 'default', $2, 5, '{}', 'exhausted', 3,
                   jsonb_build_array(jsonb_build_object('name', 'http.500', 'message', $3 || i)), now()
              from generate_series(1, $1) i
            """,
            [.int4(Int32(count)), .text(kind), .text(message)]
        )
    }

    @Test("puts back everything that matches, at a rate, with one line in the audit log; and nothing else")
    func matching() async throws {
        try await withSite { test in
            try await bury(250, "a", "order ", test.database)
            try await bury(30, "a", "no such host ", test.database)
            try await bury(20, "b", "order ", test.database)
            var ann = try await test.logIn("ann")
            let page = await ann.get("/dead-letters").text
            #expect(page.contains("http.500: order #") && page.contains(">250<"))
            let form = ["scope": "matching", "kind": "a", "failure": "http.500: order #"]
            let prepared = await ann.post("/dead-letters/prepare", form.merging(["action": "redrive"]) { $1 })
            #expect(prepared.text.contains("Redrive 250 jobs?"))
            let until = try #require(prepared.text.firstMatch(of: /name="until" value="(\d+)"/)).1
            // Jobs that die later are not included.
            try await bury(3, "a", "order ", test.database)
            _ = await ann.post(
                "/dead-letters/redrive",
                form.merging(["until": String(until), "rate": "5000", "reason": "mended", "expected": "250"]) { $1 }
            )
            try await waitUntil("the run is over") {
                await test.site.runs.all.first?.phase == .finished
            }
            #expect(try await test.database.number("select count(*) from breakwater.job") == 250)
            #expect(try await test.database.number("select count(*) from breakwater.dead_letter") == 53)
            #expect(
                try await test.database.text(
                    "select string_agg(concat_ws('|', actor, action, reason, details ->> 'count'), ';') from breakwater.audit"
                )
                    == "ann|dead_letter.redrive|mended|250"
            )
            #expect(await ann.get("/dead-letters").text.contains("done: 250"))
        }
    }

    @Test("stops a run on request, and the rest stays")
    func stopping() async throws {
        try await withSite { test in
            try await bury(400, "a", "order ", test.database)
            var ann = try await test.logIn("ann")
            let until = "\(Int64(Date().addingTimeInterval(60).timeIntervalSince1970 * 1e6))"
            _ = await ann.post(
                "/dead-letters/purge",
                ["scope": "matching", "kind": "a", "until": until, "rate": "1", "reason": "old", "expected": "400"]
            )
            try await waitUntil("it has begun") { await (test.site.runs.all.first?.done ?? 0) > 0 }
            let id = try #require(await test.site.runs.all.first?.id)
            #expect(await ann.post("/dead-letters/stop", ["run": "\(id)"]).status == 303)
            #expect(await test.site.runs.all.first?.phase == .stopped(by: "ann"))
            #expect(try await test.database.number("select count(*) from breakwater.dead_letter") > 350)
        }
    }
}
