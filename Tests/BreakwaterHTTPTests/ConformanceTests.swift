import Breakwater
import BreakwaterHTTP
import BreakwaterTesting
import Foundation
import TestPrograms
import Testing

@Suite("The http plugin conforms") struct ConformanceTests {
    /// Answers as the kind of the job says.
    private static func reply(to request: TestServer.Request) -> TestServer.Reply {
        switch request.headers["breakwater-kind"] {
        case "echo": .answer(200, body: String(decoding: request.body, as: UTF8.self))
        case "list": .answer(200, body: #"{"a": [1, true, null]}"#)
        case "nothing": .answer(204)
        case "fail": .answer(500, body: "it is broken")
        case "discard": .answer(404)
        case "unavailable": .answer(503, headers: ["Retry-After": "30"])
        case "throttle": .answer(429, headers: ["Retry-After": "7"])
        case "reset": .reset
        case "broken": .bytes(Array("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".utf8) + [0x61, 0xFF, 0xFE, 0x22, 0])
        case "broken-error":
            .bytes(Array("HTTP/1.1 500 X\r\nContent-Length: 5\r\n\r\n".utf8) + [0x61, 0xFF, 0xFE, 0x22, 0])
        case "long": .huge(2_000_000)
        case "long-error": .answer(500, body: String(repeating: "x", count: 2_000_000))
        case "wait": .never
        case "drip": .drip
        case "describe": .answer(200, body: description(of: request))
        default: .answer(418)
        }
    }

    private static func description(of request: TestServer.Request) -> String {
        let headers = [
            "id": "breakwater-job-id", "kind": "breakwater-kind", "queue": "breakwater-queue",
            "attempt": "breakwater-attempt", "max_attempts": "breakwater-max-attempts",
            "deadline": "breakwater-deadline", "idempotency_key": "idempotency-key", "traceparent": "traceparent",
            "tracestate": "tracestate",
        ]
        let members = headers.compactMapValues { request.headers[$0]?.removingPercentEncoding }
        return (try? JSONEncoder().encode(members)).map { String(decoding: $0, as: UTF8.self) } ?? ""
    }

    private static func suite(_ server: TestServer) -> PluginConformance {
        func job(_ kind: String) -> Job { Job(kind: kind) }
        let url = server.url
        var suite = PluginConformance(scenarios: [
            .succeeds(job("list"), result: #"{"a": [1, true, null]}"#),
            .succeeds(job("nothing")),
            .fails(job("fail"), name: "http.500"),
            .discards(job("discard"), name: "http.404"),
            .unavailable(job("unavailable"), name: "http.503", retryAfter: .seconds(30)),
            .throttled(job("throttle"), name: "http.429", retryAfter: .seconds(7)),
            .unavailable(job("reset"), name: "http.connection"),
            .answers(job("broken")),
            .answers(job("broken-error")),
            .givesTooMuch(job("long"), keeping: 1 << 19),
            .fails(job("long-error"), name: "http.500"),
            .waits(job("wait")),
            .waits(job("drip")),
            .describesJob(job("describe"), withCheckpoint: false),
            .echoes(job("echo")),
        ]) { try HTTPPlugin(url: url, maxResponseBytes: 1 << 19) }
        suite.patience = .seconds(240)
        return suite
    }

    @Test("to what every plugin promises")
    func conforms() async throws {
        try await withServer(Self.reply) { try await Self.suite($0).check() }
    }

    @Test("and leaves no descriptor and no process behind")
    func leavesNothing() async throws {
        try await runAlone("BreakwaterHTTPTests.ConformanceTests/leavesNothing") {
            try await withServer(Self.reply) { server in
                var suite = Self.suite(server)
                suite.isAlone = true
                try await suite.check()
            }
        }
    }
}
