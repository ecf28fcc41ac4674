import Breakwater
import Foundation
import Testing

@testable import BreakwaterHTTP

@Suite("The format of requests") struct RequestFormatTests {
    /// What a request with this format looks like when it arrives, for a job with this payload.
    private func request(_ format: RequestFormat, payload: String) async throws -> TestServer.Request {
        try await withServer({ _ in .answer(200) }) { server in
            let plugin = try HTTPPlugin(url: server.url, secret: secret, format: format)
            #expect(try await run(plugin, Job(kind: "test", payload: payload)) == .succeeded())
            return try #require(server.requests.first)
        }
    }

    private let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

    @Test("each method is sent, with a body if it has one", arguments: RequestFormat.Method.allCases)
    func methods(method: RequestFormat.Method) async throws {
        var format = RequestFormat()
        format.method = method
        let seen = try await request(format, payload: #"{"a": 1}"#)
        #expect(seen.line == "\(method.rawValue) / HTTP/1.1")
        #expect(String(decoding: seen.body, as: UTF8.self) == (method.hasBody ? #"{"a": 1}"# : ""))
        #expect(seen.headers["content-type"] == (method.hasBody ? "application/json" : nil))
        #expect(seen.headers["transfer-encoding"] == nil)
        // The signature is that of the body that was sent.
        let timestamp = try #require(seen.headers["webhook-timestamp"].flatMap { Double($0) })
        let signature = try WebhookKey(secret).headers(
            id: "breakwater-1",
            time: Date(timeIntervalSince1970: timestamp),
            body: seen.body
        )
        #expect(seen.headers["webhook-signature"] == signature.last?.1)
    }

    @Test("the answer to HEAD is not waited for as if it had a body")
    func head() async throws {
        try await withServer({ _ in .raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n") }) { server in
            var format = RequestFormat()
            format.method = .head
            let plugin = try HTTPPlugin(url: server.url, format: format)
            #expect(try await run(plugin) == .succeeded())
        }
    }

    @Test(
        "the body is made from the payload",
        arguments: [
            (BodyTemplate.payload, #"{"a": {"b": [1, "x\"y"]}, "n": null}"#),
            (.value(at: ["a"]), #"{"b": [1, "x\"y"]}"#),
            (.value(at: ["a", "b", "1"]), #""x\"y""#),
            (.value(at: ["a", "b", "-2"]), "1"),
            (.value(at: ["n"]), "null"),
            (
                .object([
                    .init("t\"", .json(#""order""#)), .init("d", .value(at: ["a", "b"])),
                    .init("none", .value(at: ["z"])),
                ]),
                #"{"t\"":"order","d":[1, "x\"y"],"none":null}"#
            ),
            (.list([.payload, .json("1"), .object([])]), #"[{"a": {"b": [1, "x\"y"]}, "n": null},1,{}]"#),
        ]
    )
    func bodies(body: BodyTemplate, expected: String) async throws {
        var format = RequestFormat()
        format.body = body
        let seen = try await request(format, payload: #"{"a": {"b": [1, "x\"y"]}, "n": null}"#)
        #expect(String(decoding: seen.body, as: UTF8.self) == expected)
    }

    @Test(
        "the content type says how the body is written",
        arguments: [
            ("application/cloudevents+json", #"{"a b": "é&", "n": 1}"#, #"{"a b": "é&", "n": 1}"#),
            (
                "application/x-www-form-urlencoded", #"{"a b": "é& ", "n": 1, "t": true, "z": null}"#,
                "a+b=%C3%A9%26+&n=1&t=true"
            ),
            ("text/plain; charset=utf-8", #""line\nnext""#, "line\nnext"),
            ("text/csv", "1.50", "1.50"),
        ]
    )
    func contentTypes(type: String, payload: String, body: String) async throws {
        var format = RequestFormat()
        format.contentType = type
        let seen = try await request(format, payload: payload)
        #expect(seen.headers["content-type"] == type)
        #expect(String(decoding: seen.body, as: UTF8.self) == body)
    }

    @Test(
        "a payload that makes no body is discarded, and the message says why",
        arguments: [
            ("application/json", BodyTemplate.value(at: ["a", "b"]), #"{"a": 1}"#, "the payload has nothing at $.a.b"),
            ("application/x-www-form-urlencoded", .payload, "[1]", "is not an object"),
            ("application/x-www-form-urlencoded", .payload, #"{"a": {"b": 1}}"#, "member 'a' is an object"),
            ("text/plain", .payload, "{}", "cannot be sent as text/plain"),
        ]
    )
    func noBody(type: String, body: BodyTemplate, payload: String, problem: String) async throws {
        try await withServer({ _ in .answer(200) }) { server in
            var format = RequestFormat()
            format.contentType = type
            format.body = body
            let plugin = try HTTPPlugin(url: server.url, format: format)
            let outcome = try await run(plugin, Job(kind: "test", payload: payload))
            #expect(outcome.outcomeClass == .discarded)
            #expect(outcome.failure?.name == "http.body")
            #expect(outcome.failure?.message.contains(problem) == true)
            #expect(server.connections == 0)
        }
    }

    @Test(
        "only the expected statuses are a success",
        arguments: [
            ([200...299], 204, OutcomeClass.succeeded), ([201...201], 201, .succeeded), ([201...201], 200, .failed),
            ([200...299, 409...409], 409, .succeeded), ([200...299, 409...409], 410, .discarded),
            ([302...302], 302, .succeeded), ([404...404], 503, .unavailable),
        ]
    )
    func statuses(success: [ClosedRange<Int>], status: Int, expected: OutcomeClass) async throws {
        try await withServer({ _ in .answer(status) }) { server in
            var format = RequestFormat()
            format.success = success
            let outcome = try await run(try HTTPPlugin(url: server.url, format: format))
            #expect(outcome.outcomeClass == expected)
            if status == 200 {
                #expect(outcome.failure?.message.contains("not a status that it should answer") == true)
            }
        }
    }

    @Test("values that cannot be meant are refused")
    func refusals() {
        func code(_ change: (inout RequestFormat) -> Void) -> HTTPPluginError.Code? {
            var format = RequestFormat()
            change(&format)
            do {
                _ = try HTTPPlugin(url: "http://a", format: format)
                return nil
            } catch {
                return (error as? HTTPPluginError)?.code
            }
        }
        for type in ["", "json", "a/b\r\nX: y", "a b/c", "/", "é/a"] {
            #expect(code { $0.contentType = type } == .invalidContentType)
        }
        for success in [[], [100...200], [200...600]] as [[ClosedRange<Int>]] {
            #expect(code { $0.success = success } == .invalidStatus)
        }
        #expect(
            code {
                $0.method = .get
                $0.body = .value(at: ["a"])
            } == .invalidBody
        )
    }

    @Test("a value is found as Postgres finds it, in any JSON")
    func slices() {
        let json = #" {"a" : [ [] , {"b\u0063": "\u00e9\n", "": {"x": -1.5e3}} ], "t": true} "#
        func text(_ path: [String]) -> String? { JSONSlice(path, in: Array(json.utf8))?.text }
        #expect(text(["a", "1", "bc"]) == "é\n")
        #expect(text(["a", "-1", "", "x"]) == "-1.5e3")
        #expect(text(["a", "0"]) == "[]")
        #expect(text(["t"]) == "true")
        for path in [
            ["b"], ["a", "2"], ["a", "-3"], ["a", "x"], ["t", "0"], ["a", "0", "0"], ["a", "1", "bc", "0"],
        ] {
            #expect(text(path) == nil)
        }
        // Text that is not JSON has no value, and does no harm.
        for broken in ["", "{", "[", "\"", "{\"a\"", "{\"a\":", "[1,", "}", ",", "\\", "{\"a\":}", "[[[", "\0"] {
            for path in [[], ["a"], ["0"], ["-1"]] { _ = JSONSlice(path, in: Array(broken.utf8))?.text }
            _ = JSONSlice([], in: Array(broken.utf8))?.members
        }
    }
}
