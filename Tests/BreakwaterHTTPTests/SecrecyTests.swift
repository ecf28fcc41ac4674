import BreakwaterTesting
import Breakwater
import Testing

@testable import BreakwaterHTTP

@Suite struct SecrecyTests {
    @Test(arguments: [400, 401, 429, 500, 503, 302])
    func failuresShowNoSecret(status: Int) async throws {
        let log = RecordedLog()
        let key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        // The server echoes the request's line and headers.
        try await withServer({ request in
            let echo = request.line + "\n" + request.headers.map { "\($0): \($1)" }.joined(separator: "\n") + key
            return .answer(status, body: echo)
        }) { server in
            let plugin = try HTTPPlugin(
                url: server.url + "/hook?token=hidden-in-query&b=other-in-query",
                headers: ["Authorization": "Bearer hidden-in-header"],
                secret: key
            )
            let message = try #require(try await run(plugin, log: log).failure?.message)
            #expect(message.contains("POST http://127.0.0.1:\(server.port)/hook answered \(status)"))
            #expect(message.contains("Bearer [redacted]") || message.contains("authorization: [redacted]"))
            for text in [message, "\(plugin)", String(reflecting: plugin), dumped(plugin)] + log.messages {
                #expect(!text.contains("hidden-in"))
                #expect(!text.contains("other-in"))
                #expect(!text.contains("MfKQ9r8"))
            }
        }
    }

    @Test("a kept result shows no secret that the server echoes, also if JSON escapes it")
    func resultsShowNoSecret() async throws {
        try await withServer({ request in
            let value = (request.headers["authorization"] ?? "").replacing("/", with: "\\/")
            return .answer(200, body: #"{"echo": "\#(value)", "line": "\#(request.line)", "n": 1}"#)
        }) { server in
            let plugin = try HTTPPlugin(
                url: server.url + "/hook?token=hidden-in-query",
                headers: ["Authorization": "Bearer hidden/in/header"]
            )
            guard case .succeeded(let result?) = try await run(plugin) else {
                Issue.record("there is no result")
                return
            }
            #expect(result.contains("[redacted]") && result.hasSuffix(#""n": 1}"#), "\(result)")
            #expect(!result.contains("hidden"), "\(result)")
        }
    }

    @Test func connectionFailuresShowNoQuery() async throws {
        let outcome = try await run(try HTTPPlugin(url: "http://127.0.0.1:1/hook?token=hidden"))
        #expect(outcome.failure?.message.contains("POST http://127.0.0.1:1/hook: ") == true)
        #expect(outcome.failure?.message.contains("hidden") == false)
    }

    private func dumped(_ plugin: HTTPPlugin) -> String {
        var text = ""
        dump(plugin, to: &text)
        return text
    }
}
