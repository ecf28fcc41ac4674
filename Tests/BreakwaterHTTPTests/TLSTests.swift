import Breakwater
import BreakwaterHTTP
import Testing

@Suite(.serialized) struct TLSTests {
    private let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

    @Test func aCertificateOfNoKnownAuthorityIsUnavailable() async throws {
        try await TLSServer.with(answer: answer) { server in
            let outcome = try await run(try HTTPPlugin(url: "https://127.0.0.1:\(server.port)/"))
            #expect(outcome.outcomeClass == .unavailable)
            #expect(outcome.failure?.name == "http.tls")
        }
    }

    @Test func aCertificateOfTheConfiguredAuthorityIsTrusted() async throws {
        try await TLSServer.with(answer: answer) { server in
            let url = "https://127.0.0.1:\(server.port)/"
            let outcome = try await run(try HTTPPlugin(url: url, caFile: server.certificate))
            #expect(outcome == .succeeded(result: "{}"))
        }
    }

    @Test func aCertificateForAnotherNameIsUnavailable() async throws {
        try await TLSServer.with(answer: answer) { server in
            let url = "https://localhost:\(server.port)/"
            let outcome = try await run(try HTTPPlugin(url: url, caFile: server.certificate))
            #expect(outcome.failure?.name == "http.tls")
        }
    }
}
