import BreakwaterExec
import BreakwaterTesting
import Foundation
import Libpq
import Logging
import ServiceLifecycle
import Testing

@testable import BreakwaterHTTP
@testable import BreakwaterNotify

/// Messages about incidents are delivered to a real server and to a real program.
@Suite("Notifying of incidents", .enabled(if: TestDatabase.isAvailable, "BREAKWATER_TEST_DATABASE is not set"))
struct IncidentNotifierTests {
    private let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

    /// Runs several notifiers beside the body, as in a fleet.
    private func withNotifiers(
        _ count: Int,
        _ database: TestDatabase,
        _ target: NotificationTarget,
        log: RecordedLog = RecordedLog(),
        _ body: () async throws -> Void
    ) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<count {
                let notifier = IncidentNotifier(
                    database: database.options,
                    target: target,
                    interval: .milliseconds(20),
                    logger: log.logger()
                )
                group.addTask { try await notifier.run() }
            }
            try await body()
            group.cancelAll()
        }
    }

    /// Inserts an incident that is confirmed.
    private func begin(_ database: TestDatabase) async throws {
        try await database.query(
            """
            insert into breakwater.circuit_incident (kind, key, began_at, opened_at, confirmed_at, cause, evidence)
            values ('hook', '', now(), now(), now(), '10 failures in a row',
                    '{"failures": [{"name": "http.500", "count": 10}], "examples": [{"message": "private"}]}')
            """
        )
    }

    /// Ends the incident so long ago that its end is due to be reported.
    private func end(_ database: TestDatabase) async throws {
        try await database.query(
            "update breakwater.circuit_incident set began_at = now() - interval '5 minutes', "
                + "ended_at = now() - interval '2 minutes', end_reason = '3 probes succeeded'"
        )
    }

    private func told(_ database: TestDatabase) async throws -> Int {
        try await database.number("select coalesce(max(messages), 0) from breakwater.incident_notice")
    }

    @Test("a begin and an end are sent once each, signed, by a fleet of workers")
    func webhook() async throws {
        try await withTestDatabase { database in
            let server = try TestServer { _ in .answer(200) }
            defer { server.stop() }
            let target = NotificationTarget.webhook(
                try WebhookEndpoint(url: server.url + "/hook?token=1", secret: secret)
            )
            try await withNotifiers(3, database, target) {
                try await begin(database)
                try await waitUntil("the begin is told") { try await told(database) == 1 }
                try await end(database)
                try await waitUntil("the end is told") { try await told(database) == 2 }
                // The notifiers poll a few more times.
                try await Task.sleep(for: .milliseconds(300))
            }
            let requests = server.requests
            #expect(requests.map { $0.headers["webhook-id"] } == ["incident_1_1_began", "incident_1_2_ended"])
            for (request, type) in zip(requests, ["incident.began", "incident.ended"]) {
                #expect(request.line.hasPrefix("POST /hook?token=1 "))
                #expect(request.headers["content-type"] == "application/json")
                let id = try #require(request.headers["webhook-id"])
                let timestamp = try #require(request.headers["webhook-timestamp"].flatMap { TimeInterval($0) })
                #expect(abs(Date().timeIntervalSince1970 - timestamp) < 60)
                // A receiver computes the signature over the body that it received, and so does this.
                let expected = try WebhookKey(secret)
                    .headers(id: id, time: Date(timeIntervalSince1970: timestamp), body: request.body)
                #expect(request.headers["webhook-signature"] == expected.last?.1)
                let message = try JSONSerialization.jsonObject(with: Data(request.body)) as? [String: Any]
                #expect(message?["type"] as? String == type)
                let data = try #require(message?["data"] as? [String: Any])
                #expect(data["circuit"] as? String == "hook" && data["cause"] as? String == "10 failures in a row")
                #expect(!String(decoding: request.body, as: UTF8.self).contains("private"))
            }
        }
    }

    @Test("a refused message is tried again with the same id, and logged without the URL's query")
    func refusal() async throws {
        try await withTestDatabase { database in
            let receiver = Receiver()
            receiver.answer(500)
            let server = try TestServer { receiver.receive($0) }
            defer { server.stop() }
            let log = RecordedLog()
            let target = NotificationTarget.webhook(
                try WebhookEndpoint(url: server.url + "/?token=verysecret", secret: nil)
            )
            try await withNotifiers(2, database, target, log: log) {
                try await begin(database)
                try await waitUntil("it was tried") { receiver.count == 1 }
                try await waitUntil("that is written down") {
                    try await database.number(
                        "select count(*) from breakwater.incident_notice where next_try < now() + interval '10 seconds'"
                    ) == 1
                }
                #expect(try await told(database) == 0)
                receiver.answer(204)
                // The next try is due now, so the test does not wait for it.
                try await database.query("update breakwater.incident_notice set next_try = now()")
                try await waitUntil("the message is delivered") { try await told(database) == 1 }
            }
            #expect(server.requests.map { $0.headers["webhook-id"] } == ["incident_1_1_began", "incident_1_1_began"])
            #expect(server.requests.allSatisfy { $0.headers["webhook-signature"] == nil })
            #expect(log.warnings == ["a message about an incident was not delivered; it is tried again"])
            receiver.answer(500)
            let notice = Notice(number: 1, type: "began", id: "x", tries: 1, message: "{}")
            let failure = try await target.deliver(notice, logger: log.logger())
            #expect(failure == "\(server.url)/ answered 500")
        }
    }

    @Test("a command gets the message once on its standard input, and a command that fails is run again")
    func command() async throws {
        try await withTestDatabase { database in
            let folder = FileManager.default.temporaryDirectory.appending(path: "notify-\(UUID().uuidString)")
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            defer { try? FileManager.default.removeItem(at: folder) }
            // The command fails at its first run.
            let script = "cat >> \(folder.path)/told; echo >> \(folder.path)/told; test \"$BREAKWATER_ATTEMPT\" != 1"
            let plugin = try ExecPlugin(command: ["sh", "-c", script])
            try await withNotifiers(2, database, .command(plugin, name: "sh")) {
                try await begin(database)
                try await waitUntil("it was tried") {
                    try await database.number(
                        "select count(*) from breakwater.incident_notice where tries = 1 and next_try < now() + interval '10 seconds'"
                    ) == 1
                }
                #expect(try await told(database) == 0)
                try await database.query("update breakwater.incident_notice set next_try = now()")
                try await waitUntil("the message is delivered") { try await told(database) == 1 }
                try await Task.sleep(for: .milliseconds(200))
            }
            let lines = try String(contentsOf: folder.appending(path: "told"), encoding: .utf8).split(separator: "\n")
            #expect(lines.count == 2)
            for line in lines {
                let message = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
                #expect(message?["type"] as? String == "incident.began")
            }
        }
    }
}

extension IncidentNotifierTests {
    @Test("a rule that disables an endpoint is told once, and tried again with the same id")
    func endpointDisabled() async throws {
        try await withTestDatabase { database in
            let receiver = Receiver()
            receiver.answer(500)
            let server = try TestServer { receiver.receive($0) }
            defer { server.stop() }
            let target = NotificationTarget.webhook(try WebhookEndpoint(url: server.url, secret: nil))
            try await database.query(
                "select breakwater.set_endpoint('acme', 'https://a.example/?token=private', disable_after => '1 hour')"
            )
            try await database.query("select breakwater.set_endpoint('other', 'https://b.example/')")
            let call = #"{"kind": "hook", "name": "acme", "failure": "http.500: no"}"#
            try await database.query("select breakwater.record_endpoint_calls('[\(call)]')")
            #expect(try await database.number("select count(*) from breakwater.endpoint_notice") == 0)
            try await database.query(
                "update breakwater.endpoint set failing_since = now() - interval '2 hours', failed_at = now() - interval '1 hour' "
                    + "where failing_since is not null"
            )
            // A person's decision is not told.
            try await database.query("select breakwater.disable_endpoint('other', 'unpaid')")
            let disabled = try await database.texts("select unnest(breakwater.record_endpoint_calls('[\(call)]'))")
            #expect(disabled == ["acme"])
            try await withNotifiers(3, database, target) {
                try await waitUntil("it was tried") { receiver.count == 1 }
                try await waitUntil("that is written down") {
                    try await database.number(
                        "select count(*) from breakwater.endpoint_notice where next_try < now() + interval '10 seconds'"
                    ) == 1
                }
                receiver.answer(204)
                try await database.query("update breakwater.endpoint_notice set next_try = now()")
                try await waitUntil("the message is delivered") {
                    try await database.number("select count(*) from breakwater.endpoint_notice") == 0
                }
            }
            #expect(server.requests.map { $0.headers["webhook-id"] } == ["endpoint_1", "endpoint_1"])
            let body = try #require(server.requests.first?.body)
            let message = try JSONSerialization.jsonObject(with: Data(body)) as? [String: Any]
            #expect(message?["type"] as? String == "endpoint.disabled")
            let data = try #require(message?["data"] as? [String: Any])
            #expect(data["endpoint"] as? String == "acme" && data["last_failure"] as? String == "http.500: no")
            #expect(!String(decoding: body, as: UTF8.self).contains("private"))
        }
    }
}
