import BreakwaterAdmin
import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import BreakwaterDashboard

@Suite("The dashboard", .enabled(if: TestDatabase.isAvailable))
struct SiteTests {
    /// Inserts jobs in each state, dead letters, a circuit, a worker and a pause.
    static func furnish(_ database: TestDatabase, kind: String = "k", text: String = "plain") async throws {
        try await database.query(
            """
            select breakwater.register($1, $2, array[$1, 'default'], 5, 60,
                jsonb_build_array(jsonb_build_object(
                    'kind', $1::text, 'timeout', '1 min', 'max_attempts', 3, 'keep_results', '1 day',
                    'circuit_enabled', true, 'failure_rate', 0.5, 'circuit_window', '1 min', 'minimum_calls', 5,
                    'consecutive_failures', 5, 'open_for', '1 min', 'open_factor', 2, 'open_cap', '1 h', 'probes', 1,
                    'successes_to_close', 1, 'ramp', '0', 'suspends_workers', false, 'fallback', 'hold')))
            """,
            [.text(kind), .text(text)]
        )
        for sql in [
            "select breakwater.enqueue($1, jsonb_build_object('note', $2::text, $2::text, 1), queue => $1)",
            "select breakwater.enqueue($1, jsonb_build_object('note', $2::text), run_at => now() + interval '1 h')",
            "select breakwater.enqueue($1, jsonb_build_object('note', $2::text), unique_key => left($2, 100))",
            """
            insert into breakwater.dead_letter (id, queue, kind, priority, payload, reason, attempt, errors, enqueued_at)
            values (1000000, $1, $1, 5, jsonb_build_object('note', $2::text), 'exhausted', 3,
                    jsonb_build_array(jsonb_build_object('attempt', 1, 'class', 'failed', 'name', $2::text,
                                                         'message', $2::text, 'at', now(), 'worker', 1)), now())
            """,
            """
            insert into breakwater.result (id, kind, result, expires_at)
            values (2000000, $1, to_jsonb($2::text), now() + interval '1 h')
            """,
            """
            select breakwater.set_schedule($1, cron => '0 3 * * *', kind => $1, reason => $2,
                                           payload => jsonb_build_object('note', $2::text))
            """,
            """
            insert into breakwater.schedule_slot (schedule, slot, outcome, job, at)
            select $1, now(), 'enqueued', 1, now() where $2 <> '' on conflict do nothing
            """,
            "select breakwater.pause_schedule($1, $2, $2)",
            "select breakwater.pause_queue($1, $2, $2)",
            "select breakwater.open_circuit($1, $2, null, $2)",
            """
            update breakwater.circuit_incident
               set end_reason = $2,
                   evidence = jsonb_build_object('failures', jsonb_build_array(jsonb_build_object('name', $2::text, 'count', 1)))
             where kind = $1
            """,
            "select breakwater.drain_worker(1, $2, $1)",
        ] {
            try await database.query(sql, [.text(kind), .text(text)])
        }
    }

    /// Writes the evidence that a circuit keeps of an opening and of a round of probes, with this text in every place.
    static func furnishEvidence(_ database: TestDatabase, kind: String = "k", text: String = "plain") async throws {
        try await database.query(
            """
            insert into breakwater.circuit_transition (kind, key, generation, from_state, to_state, reason, evidence, at)
            values ($1, '', 1000, 'closed', 'open', $2, jsonb_build_object(
                        'failures', jsonb_build_array(jsonb_build_object('name', $2::text, 'count', 7)), 'repeats', 1,
                        'examples', jsonb_build_array(jsonb_build_object('job', 1, 'name', $2::text, 'message', $2::text,
                                                                         'at', now())),
                        'workers', jsonb_build_array(jsonb_build_object('worker', 1, 'name', $2::text, 'count', 7)),
                        'common_value', jsonb_build_object('path', $2::text, 'value', $2::text, 'failed', 7, 'of_failed', 7,
                                                      'others', 0, 'of_others', 9)), now()),
                   ($1, '', 1001, 'half_open', 'open', $2, jsonb_build_object(
                        'probes', jsonb_build_array(jsonb_build_object(
                            'job', 2, 'outcome', 'unavailable', 'name', $2::text, 'message', $2::text, 'worker', 1,
                            'at', now()))), now())
            """,
            [.text(kind), .text(text)]
        )
    }

    /// The addresses of all pages, with queries for the kind.
    static func pages(kind: String) -> [(path: String, query: String)] {
        let kind = FormValues.encoded(kind)
        return [
            ("/", ""), ("/circuits", ""), ("/circuits/one", "kind=\(kind)"), ("/queues", ""), ("/jobs", ""),
            ("/incidents", ""), ("/incidents", "kind=\(kind)"), ("/incidents/1", ""),
            ("/jobs", "kind=\(kind)&queue=\(kind)&state=ready"), ("/jobs/1", ""), ("/jobs/2", ""),
            ("/jobs/1000000", ""),
            ("/jobs/2000000", ""), ("/dead-letters", ""), ("/dead-letters", "kind=\(kind)&failure=\(kind)"),
            ("/schedules", ""), ("/schedules/one", "name=\(kind)"), ("/workers", ""), ("/audit", ""),
            ("/audit", "actor=\(kind)&action=\(kind)&target=\(kind)"),
        ]
    }

    @Test("shows hostile texts as text, on every page")
    func hostile() async throws {
        try await withSite { test in
            var ann = try await test.logIn("ann")
            // The database refuses some of these texts now, but may store them some day.
            try await test.database.query(
                """
                create or replace function breakwater.has_control_characters(p_name text) returns boolean
                language sql immutable as 'select false'
                """
            )
            // Postgres cannot store a NUL, and enqueueing refuses empty names.
            let texts = hostileTexts + HostileCorpus.texts.map(\.value).filter { !$0.isEmpty && !$0.utf8.contains(0) }
            for (place, text) in texts.enumerated() {
                try await test.database.query(
                    "truncate breakwater.job, breakwater.dead_letter, breakwater.result, breakwater.worker, "
                        + "breakwater.circuit_incident, breakwater.schedule, breakwater.schedule_slot restart identity"
                )
                let kind = String(decoding: text.utf8.prefix(120), as: UTF8.self) + "\(place)"
                try await Self.furnish(test.database, kind: kind, text: text)
                try await Self.furnishEvidence(test.database, kind: kind, text: text)
                for (path, query) in Self.pages(kind: kind) {
                    let answer = await ann.get(path, query)
                    #expect(answer.status == 200, "\(path) with \(text.debugDescription): \(answer.text.suffix(600))")
                    for mark in [
                        "<script>", "<img", "<svg/", "<base", "<meta http-equiv", "javascript:alert(1)\"",
                        "evil.test\"", "onerror=alert(1)>", "\u{202E}",
                    ] {
                        #expect(!answer.text.contains(mark), "\(mark) on \(path) with \(text.debugDescription)")
                    }
                }
            }
        }
    }

    @Test("tells the browser on every answer what the page may do")
    func headers() async throws {
        try await withSite { test in
            var ann = try await test.logIn("ann")
            try await Self.furnish(test.database)
            for path in ["/", "/login", "/assets/style.css", "/assets/live.js", "/nowhere", "/jobs/77"] {
                let answer = await ann.get(path)
                let policy = answer.header("content-security-policy") ?? ""
                #expect(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "\(path)")
                #expect(!policy.contains("unsafe"), "\(path)")
                #expect(answer.header("x-content-type-options") == "nosniff")
                // The page uses nothing that the policy forbids, because it would not work.
                #expect(
                    !answer.text.contains(" style=\"") && !answer.text.contains("<style")
                        && !answer.text.contains(" onclick")
                )
            }
            #expect(await ann.get("/").header("cache-control") == "no-store")
        }
    }

    @Test("shows nothing without a login, at any address")
    func strangers() async throws {
        try await withSite { test in
            try await Self.furnish(test.database)
            var stranger = Visitor(site: test.site)
            for route in Route.all where route.role != nil {
                let path = route.pattern.replacing("#", with: "1")
                let answer =
                    route.method == .get ? await stranger.get(path) : await stranger.post(path, ["reason": "r"])
                #expect(answer.status == 303 && answer.header("location")?.hasPrefix("/login") == true, "\(path)")
                #expect(!answer.text.contains("plain"))
            }
            let open = Route.all.filter { $0.role == nil }.map(\.pattern)
            #expect(Set(open) == ["/login", "/assets/style.css", "/assets/live.js", "/assets/icon.svg"])
        }
    }

    @Test("refuses every action to a read-only user, and shows no button for it")
    func readOnly() async throws {
        try await withSite { test in
            try await Self.furnish(test.database)
            var bob = try await test.logIn("bob")
            let before = try await test.database.text("select string_agg(a.action, ',') from breakwater.audit a")
            for route in Route.all where route.method == .post && !["/login", "/logout"].contains(route.pattern) {
                let answer = await bob.post(
                    route.pattern.replacing("#", with: "1"),
                    [
                        "reason": "r", "kind": "k", "key": "", "change": "close", "scope": "queue", "name": "k",
                        "id": "1000000",
                        "action": "purge", "priority": "1", "run": "1",
                    ]
                )
                #expect(answer.status == 403 && answer.text.contains("You may only look"), "\(route.pattern)")
            }
            #expect(try await test.database.text("select string_agg(a.action, ',') from breakwater.audit a") == before)
            for (path, query) in Self.pages(kind: "k") {
                let page = await bob.get(path, query).text
                #expect(page.matches(of: /method="post"/).count == 1, "only the way out is there: \(path)")
            }
        }
    }

    @Test("refuses every form without the session's token, and every form from another site")
    func forgery() async throws {
        try await withSite { test in
            try await Self.furnish(test.database)
            var ann = try await test.logIn("ann")
            var other = try await test.logIn("ann")
            let before = try await test.database.number("select count(*) from breakwater.audit")
            let form = [
                "reason": "r", "kind": "k", "key": "", "change": "close", "scope": "queue", "name": "k",
                "id": "1000000", "action": "purge", "priority": "1",
            ]
            for route in Route.all where route.method == .post && route.pattern != "/login" {
                let path = route.pattern.replacing("#", with: "1")
                for token in ["", "guess", other.formToken] {
                    #expect(await ann.post(path, form, token: token).status == 403, "\(path)")
                }
                ann.headers["origin"] = ["https://evil.test"]
                #expect(await ann.post(path, form).status == 403, "\(path)")
                ann.headers["origin"] = nil
                ann.headers["sec-fetch-site"] = ["cross-site"]
                #expect(await ann.post(path, form).status == 403, "\(path)")
                ann.headers["sec-fetch-site"] = nil
            }
            #expect(try await test.database.number("select count(*) from breakwater.audit") == before)
            #expect(await other.get("/").status == 200)
        }
    }

    @Test("ends a session for good when the user logs out")
    func logOut() async throws {
        try await withSite { test in
            var ann = try await test.logIn("ann")
            let stolen = ann
            #expect(await ann.post("/logout", [:]).status == 303)
            var thief = stolen
            #expect(await thief.get("/").status == 303)
        }
    }

    @Test("cannot change anything in a query for a page")
    func readsOnly() async throws {
        try await withSite { test in
            let error = await #expect(throws: (any Error).self) {
                try await test.site.database.with { admin in
                    _ = try await admin.read("update breakwater.worker set running = 1 returning 1")
                }
            }
            #expect("\(String(describing: error))".contains("25006"))
        }
    }

    @Test("stops a query that takes too long, and says so")
    func timeouts() async throws {
        try await withSite {
            $0.queryTimeout = .milliseconds(200)
        } _: { test in
            let error = await #expect(throws: (any Error).self) {
                try await test.site.database.with { admin in _ = try await admin.read("select pg_sleep(60)") }
            }
            #expect("\(String(describing: error))".contains("57014"))
        }
    }

    @Test("says what is wrong with a payload path")
    func badPath() async throws {
        try await withSite { test in
            try await Self.furnish(test.database)
            var ann = try await test.logIn("ann")
            let answer = await ann.get("/jobs", "path=%24.note%20%3D%3D%3D")
            #expect(answer.status == 422 && answer.text.contains("jsonpath"))
        }
    }
}
