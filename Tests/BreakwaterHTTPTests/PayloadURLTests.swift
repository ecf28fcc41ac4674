import Breakwater
import Testing

@testable import BreakwaterHTTP

@Suite("A URL in the payload") struct PayloadURLTests {
    private func job(_ url: String) -> Job { Job(kind: "test", payload: #"{"to": {"url": "\#(url)"}}"#) }

    @Test("is where the job is sent")
    func sent() async throws {
        try await withServer({ _ in .answer(200) }) { server in
            let plugin = try HTTPPlugin(urlAt: ["to", "url"], allow: ["127.0.0.1"])
            #expect(try await run(plugin, job(server.url + "/a?b=1")) == .succeeded())
            #expect(server.requests.first?.line == "POST /a?b=1 HTTP/1.1")
        }
    }

    @Test(
        "may name no address inside, and no name that resolves to one, unless it is allowed",
        arguments: ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]", "a.localhost", "0.0.0.0"]
    )
    func inside(host: String) async throws {
        try await withServer({ _ in .answer(200) }) { server in
            let outcome = try await run(try HTTPPlugin(urlAt: ["to", "url"]), job("http://\(host):\(server.port)/"))
            // Not every machine resolves names below localhost.
            #expect(["http.refusedAddress", "http.dns"].contains(outcome.failure?.name))
            #expect(server.connections == 0)
        }
    }

    @Test(
        "that cannot be used discards the job, and is not shown",
        arguments: [
            "", "ftp://a/", "http://u:hidden@a/", "http://a/#hidden", "http://169.254.169.254/hidden", "hidden",
            "http://a b/hidden",
        ]
    )
    func unusable(url: String) async throws {
        let outcome = try await run(try HTTPPlugin(urlAt: ["to", "url"]), job(url))
        #expect(outcome.outcomeClass == .discarded)
        #expect(outcome.failure?.name == "http.url")
        #expect(outcome.failure?.message.contains("$.to.url") == true)
        #expect(outcome.failure?.message.contains("hidden") == false)
    }

    @Test("that is missing discards the job", arguments: ["{}", #"{"to": 1}"#, #"{"to": {"url": null}}"#, "[]"])
    func missing(payload: String) async throws {
        let outcome = try await run(try HTTPPlugin(urlAt: ["to", "url"]), Job(kind: "test", payload: payload))
        #expect(outcome.failure?.message == "the payload has no url at $.to.url")
    }

    @Test("and its query are not shown in failures")
    func secrecy() async throws {
        try await withServer({ .answer(500, body: $0.line) }) { server in
            let plugin = try HTTPPlugin(urlAt: ["to", "url"], allow: ["127.0.0.0/8"])
            let message = try await run(plugin, job(server.url + "/x?token=hidden-in-query")).failure?.message
            #expect(message?.contains("/x answered 500") == true)
            #expect(message?.contains("hidden-in") == false)
        }
    }
}
