import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import Breakwater
@testable import BreakwaterHTTP

extension TestDatabase {
    /// Runs a worker that sends the jobs of the kind `hook` to endpoints, with its directory, beside the body.
    func withEndpoints(
        rule: EndpointRule = EndpointRule(),
        allow: [String] = ["127.0.0.0/8"],
        headers: [String: String] = [:],
        settings: (inout HandlerSettings) -> Void = { _ in },
        _ body: @escaping @Sendable () async throws -> Void
    ) async throws {
        let directory = EndpointDirectory(database: options)
        let plugin = try HTTPPlugin(endpointAt: ["to"], in: directory, rule: rule, headers: headers, allow: allow)
        var rules = HandlerSettings()
        rules.circuit.key = plugin.endpointPath.map { .path($0) }
        rules.retry.base = .milliseconds(100)
        rules.retry.cap = .milliseconds(200)
        settings(&rules)
        let handlers = [HandlerRegistration(kind: "hook", plugin: plugin, settings: rules)]
        #expect(EndpointDirectory.directories(of: handlers).count == 1)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await directory.run() }
            try await withWorker(handlers, body)
            group.cancelAll()
        }
    }

    /// Adds an endpoint.
    func setEndpoint(_ name: String, _ url: String, secrets: [String] = [], headers: String = "{}") async throws {
        try await query(
            "select breakwater.set_endpoint($1, $2, $3, $4)",
            [.text(name), .text(url), .textArray(secrets), .jsonb(headers)]
        )
    }

    /// Adds jobs for an endpoint.
    func addJobs(_ count: Int, to name: String) async throws {
        try await query(
            "insert into breakwater.job (kind, payload) select 'hook', jsonb_build_object('to', $1, 'n', n) "
                + "from generate_series(1, $2) n",
            [.text(name), .int4(Int32(count))]
        )
    }

    func jobs(of name: String) async throws -> Int {
        try await number("select count(*) from breakwater.job where payload ->> 'to' = '\(name)'")
    }

    /// The names of the errors of an endpoint's dead letters.
    func lastErrors(of name: String) async throws -> [String] {
        try await texts(
            "select reason || ' ' || (errors -> -1 ->> 'name') from breakwater.dead_letter "
                + "where payload ->> 'to' = '\(name)'"
        )
    }
}

/// A real worker sends jobs to a real server, over endpoints in a real database.
@Suite("Endpoints", .enabled(if: TestDatabase.isAvailable, "BREAKWATER_TEST_DATABASE is not set"))
struct EndpointTests {
    private static let old = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    private static let new = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"

    @Test("a job is sent to the endpoint that it names, signed with each of its secrets")
    func delivery() async throws {
        try await withTestDatabase { database in
            try await withServer({ _ in .answer(204) }) { server in
                try await database.setEndpoint(
                    "acme",
                    server.url + "/in?x=1",
                    secrets: [Self.new, Self.old],
                    headers: #"{"x-tenant": "7"}"#
                )
                try await database.withEndpoints(headers: ["X-Tenant": "none", "X-Ours": "1"]) {
                    try await database.addJobs(1, to: "acme")
                    try await waitUntil("the job is delivered") { try await database.jobs(of: "acme") == 0 }
                }
                let seen = try #require(server.requests.first)
                #expect(server.requests.count == 1)
                #expect(seen.line == "POST /in?x=1 HTTP/1.1")
                #expect(String(decoding: seen.body, as: UTF8.self) == #"{"n": 1, "to": "acme"}"#)
                // The endpoint's own header goes before the handler's.
                #expect(seen.headers["x-tenant"] == "7")
                #expect(seen.headers["x-ours"] == "1")
                let id = try #require(seen.headers["webhook-id"])
                let timestamp = try #require(seen.headers["webhook-timestamp"].flatMap { Double($0) })
                let time = Date(timeIntervalSince1970: timestamp)
                let signatures = try [Self.new, Self.old].compactMap { secret in
                    try WebhookKey(secret).headers(id: id, time: time, body: seen.body).last?.1
                }
                #expect(seen.headers["webhook-signature"] == signatures.joined(separator: " "))
            }
        }
    }

    @Test("a job that names no endpoint, or one that does not exist, becomes a dead letter that says so")
    func unknown() async throws {
        try await withTestDatabase { database in
            try await database.withEndpoints {
                try await database.addJobs(1, to: "nobody")
                try await database.query("insert into breakwater.job (kind, payload) values ('hook', '{\"a\": 1}')")
                try await waitUntil("both died") {
                    try await database.number("select count(*) from breakwater.dead_letter") == 2
                }
            }
            #expect(try await database.lastErrors(of: "nobody") == ["discarded endpoint.unknown"])
            let messages = try await database.texts(
                "select errors -> -1 ->> 'message' from breakwater.dead_letter order by id"
            )
            #expect(
                messages == [
                    "there is no endpoint 'nobody' in breakwater.endpoint", "the payload names no endpoint at $.to",
                ]
            )
        }
    }

    @Test("a customer's URL may not point inside, unless the operator allows it")
    func inside() async throws {
        try await withTestDatabase { database in
            try await withServer({ _ in .answer(200) }) { server in
                try await database.setEndpoint("direct", server.url)
                try await database.setEndpoint("named", "http://localhost:\(server.port)/")
                try await database.setEndpoint("cloud", "http://169.254.169.254/latest/meta-data")
                try await database.withEndpoints(allow: [], settings: { $0.retry.maxAttempts = 1 }) {
                    for name in ["direct", "named", "cloud"] { try await database.addJobs(1, to: name) }
                    try await waitUntil("all died") {
                        try await database.number("select count(*) from breakwater.dead_letter") == 3
                    }
                }
                #expect(server.connections == 0)
                #expect(try await database.lastErrors(of: "direct") == ["exhausted http.refusedAddress"])
                #expect(try await database.lastErrors(of: "named") == ["exhausted http.refusedAddress"])
                #expect(try await database.lastErrors(of: "cloud") == ["exhausted endpoint.invalid"])
            }
        }
    }

    @Test("each endpoint has its own circuit: a dead one stops nobody else")
    func circuits() async throws {
        try await withTestDatabase { database in
            try await withServer({ request in request.line.contains("dead") ? .answer(503) : .answer(200) }) { server in
                try await database.setEndpoint("dead", server.url + "/dead")
                try await database.setEndpoint("fine", server.url + "/fine")
                try await database.withEndpoints(settings: { $0.circuit.openFor = .seconds(600) }) {
                    try await database.addJobs(40, to: "dead")
                    try await waitUntil("its circuit opens") {
                        try await database.texts(
                            "select state from breakwater.circuit where kind = 'hook' and key = 'dead'"
                        ).first == "open"
                    }
                    try await database.addJobs(200, to: "fine")
                    try await waitUntil("the others are delivered") { try await database.jobs(of: "fine") == 0 }
                }
                #expect(try await database.jobs(of: "dead") == 40)
                #expect(try await database.text("select state from breakwater.circuit where key = ''") == "closed")
                let state = try await database.texts("select unnest(circuits) from breakwater.endpoint_status")
                #expect(state.allSatisfy { $0.hasPrefix("hook: ") } && state.count == 1)
            }
        }
    }

    @Test("a disabled endpoint's jobs are held, and spend nothing; enabled, they are delivered")
    func disableAndEnable() async throws {
        try await withTestDatabase { database in
            try await withServer({ _ in .answer(200) }) { server in
                try await database.setEndpoint("acme", server.url)
                try await database.setEndpoint("other", server.url)
                try await database.withEndpoints {
                    try await database.addJobs(1, to: "acme")
                    try await waitUntil("the first is delivered") { try await database.jobs(of: "acme") == 0 }
                    #expect(
                        try await database.text("select breakwater.disable_endpoint('acme', 'asked')::text") == "true"
                    )
                    try await database.addJobs(20, to: "acme")
                    try await database.addJobs(20, to: "other")
                    try await waitUntil("the others are delivered") { try await database.jobs(of: "other") == 0 }
                    try await waitUntil("its jobs are parked") {
                        try await database.number("select held from breakwater.endpoint_status where name = 'acme'")
                            == 20
                    }
                    #expect(server.requests.count == 21)
                    #expect(try await database.number("select sum(attempt) from breakwater.job") == 0)
                    #expect(try await database.text("select breakwater.enable_endpoint('acme')::text") == "true")
                    #expect(try await database.text("select breakwater.enable_endpoint('acme')::text") == "false")
                    try await waitUntil("they are delivered") { try await database.jobs(of: "acme") == 0 }
                    #expect(server.requests.count == 41)
                }
                let actions = try await database.texts(
                    "select action from breakwater.audit where target = 'acme' order by id"
                )
                #expect(actions == ["endpoint.set", "endpoint.disable", "endpoint.enable"])
            }
        }
    }

    @Test("as the handler says, a disabled endpoint's jobs become dead letters, and can be redelivered")
    func deadLetters() async throws {
        try await withTestDatabase { database in
            try await withServer({ _ in .answer(200) }) { server in
                var rule = EndpointRule()
                rule.whenDisabled = .deadLetter
                try await database.setEndpoint("acme", server.url)
                try await database.query("select breakwater.disable_endpoint('acme', 'unpaid')")
                try await database.withEndpoints(rule: rule) {
                    try await database.addJobs(5, to: "acme")
                    try await waitUntil("they died") { try await database.jobs(of: "acme") == 0 }
                    #expect(
                        try await database.lastErrors(of: "acme")
                            == Array(repeating: "discarded endpoint.disabled", count: 5)
                    )
                    #expect(server.connections == 0)
                    try await database.query("select breakwater.enable_endpoint('acme')")
                    let since = "now() - interval '1 hour'"
                    #expect(try await database.number("select breakwater.redeliver_endpoint('other', \(since))") == 0)
                    #expect(try await database.number("select breakwater.redeliver_endpoint('acme', now())") == 0)
                    #expect(try await database.number("select breakwater.redeliver_endpoint('acme', \(since), 2)") == 2)
                    #expect(try await database.number("select breakwater.redeliver_endpoint('acme', \(since))") == 3)
                    try await waitUntil("they are delivered") { server.requests.count == 5 }
                }
                // A receiver recognises what it has already.
                let ids = Set(server.requests.compactMap { $0.headers["idempotency-key"] })
                #expect(ids.count == 5)
            }
        }
    }

    @Test("an endpoint whose deliveries have all failed for the time of its rule is disabled; one success starts over")
    func rule() async throws {
        try await withTestDatabase { database in
            try await withServer({ request in
                String(decoding: request.body, as: UTF8.self).contains("good") ? .answer(200) : .answer(500)
            }) { server in
                var rule = EndpointRule()
                rule.disableAfter = .seconds(86_400 * 3)
                try await database.setEndpoint("acme", server.url)
                try await database.setEndpoint("never", server.url)
                try await database.query("select breakwater.set_endpoint('never', disable_after => '0')")
                let failing = "select count(*) from breakwater.endpoint where failing_since is not null"
                // The failures happened in the past, as if days had gone by.
                let age =
                    "update breakwater.endpoint set failing_since = now() - interval '4 days', "
                    + "failed_at = now() - interval '1 hour' where failing_since is not null"
                try await database.withEndpoints(
                    rule: rule,
                    settings: {
                        $0.circuit.isEnabled = false
                        $0.retry.maxAttempts = 1_000_000
                    }
                ) {
                    try await database.addJobs(1, to: "acme")
                    try await waitUntil("its failures are reported") { try await database.number(failing) == 1 }
                    #expect(
                        try await database.text("select last_failure from breakwater.endpoint where name = 'acme'")
                            .contains("answered 500")
                    )
                    // Meanwhile no delivery fails.
                    try await database.query(
                        "update breakwater.endpoint set disable_after = '365 days' where name = 'acme'"
                    )
                    try await database.query(age)
                    // Jobs succeed until the worker has read that the endpoint was failing, and one more success.
                    try await waitUntil("the success is reported") {
                        try await database.query(
                            "insert into breakwater.job (kind, payload, priority) "
                                + "values ('hook', '{\"to\": \"acme\", \"good\": 1}', 0)"
                        )
                        return try await database.number(
                            "select count(*) from breakwater.endpoint where failing_since < now() - interval '1 day'"
                        ) == 0
                    }
                    #expect(
                        try await database.number(
                            "select count(*) from breakwater.endpoint where disabled_at is not null"
                        ) == 0
                    )

                    try await database.query("update breakwater.endpoint set disable_after = null where name = 'acme'")
                    try await database.addJobs(1, to: "never")
                    try await waitUntil("both fail") { try await database.number(failing) == 2 }
                    try await waitUntil("it is disabled") {
                        // The last successes from before may be reported only now, and start the count over.
                        try await database.query(age)
                        return try await database.number(
                            "select count(*) from breakwater.endpoint where disabled_at is not null"
                        ) == 1
                    }
                    try await waitUntil("the other has failed since") {
                        try await database.number(
                            "select count(*) from breakwater.endpoint where name = 'never' and failed_at > now() - interval '1 minute'"
                        ) == 1
                    }
                }
                #expect(
                    try await database.texts(
                        "select name || ' ' || disabled_by from breakwater.endpoint where disabled_at is not null"
                    ) == ["acme breakwater"]
                )
                #expect(
                    try await database.text("select disabled_reason from breakwater.endpoint where name = 'acme'")
                        .contains("for longer than 3 days")
                )
                #expect(try await database.number("select count(*) from breakwater.endpoint_notice") == 1)
            }
        }
    }

    @Test("an endpoint that answers 410 is disabled at once if there is a rule", arguments: [true, false])
    func gone(hasRule: Bool) async throws {
        try await withTestDatabase { database in
            try await withServer({ _ in .answer(410) }) { server in
                var rule = EndpointRule()
                rule.disableAfter = hasRule ? .seconds(86_400) : nil
                try await database.setEndpoint("acme", server.url)
                try await database.withEndpoints(rule: rule) {
                    try await database.addJobs(1, to: "acme")
                    try await waitUntil("the failure is reported") {
                        try await database.number(
                            "select count(*) from breakwater.endpoint where failing_since is not null"
                        ) == 1
                    }
                }
                let reasons = try await database.texts(
                    "select disabled_reason from breakwater.endpoint where disabled_at is not null"
                )
                #expect(reasons.count == (hasRule ? 1 : 0))
                #expect(reasons.allSatisfy { $0.contains("410") })
            }
        }
    }

    @Test("a change takes effect within seconds, and a removed endpoint's jobs become dead letters")
    func changes() async throws {
        try await withTestDatabase { database in
            try await withServer({ _ in .answer(200) }) { first in
                try await withServer({ _ in .answer(200) }) { second in
                    try await database.setEndpoint("acme", first.url)
                    try await database.withEndpoints {
                        try await database.addJobs(1, to: "acme")
                        try await waitUntil("it goes to the first URL") { first.requests.count == 1 }
                        try await database.setEndpoint("acme", second.url)
                        try await waitUntil("jobs go to the second URL") {
                            try await database.addJobs(1, to: "acme")
                            return second.requests.count > 0
                        }
                        try await database.query("select breakwater.remove_endpoint('acme')")
                        try await waitUntil("jobs become dead letters") {
                            try await database.addJobs(1, to: "acme")
                            return try await database.lastErrors(of: "acme").contains("discarded endpoint.unknown")
                        }
                    }
                }
            }
        }
    }
}
