import Breakwater
import Testing

@testable import BreakwaterHTTP
@testable import WorkerCommand

@Suite("The configuration of http")
struct EndpointConfigurationTests {
    private func load(http: String, _ more: String = "") throws -> LoadedConfiguration {
        try WorkerCommandTests.load("handlers: { a: { http: \(http)\(more) } }")
    }

    private func plugin(_ http: String) throws -> HTTPPlugin {
        try #require(try load(http: http).worker.handlers.first?.plugin as? HTTPPlugin)
    }

    private func problems(_ http: String, _ more: String = "") -> [String] {
        do {
            _ = try load(http: http, more)
            return []
        } catch let error as ConfigurationError {
            return error.problems.map(\.description)
        } catch {
            return ["\(error)"]
        }
    }

    @Test("takes an endpoint, whose path is also the key of the kind's circuits")
    func endpoint() throws {
        let loaded = try load(http: #"{ endpoint: "$.to[0]", disable_after: 5d, when_disabled: dead_letter }"#)
        let handler = try #require(loaded.worker.handlers.first)
        #expect(handler.settings.circuit.key == .path(["to", "0"]))
        let plugin = try #require(handler.plugin as? HTTPPlugin)
        guard case .endpoint(let path, _, let rule) = plugin.target else {
            Issue.record("it is \(plugin)")
            return
        }
        #expect(path == ["to", "0"])
        #expect(rule.disableAfter == .seconds(5 * 86_400))
        #expect(rule.whenDisabled == .deadLetter)
        // What --check prints is read as the same configuration.
        let again = try WorkerCommandTests.load(loaded.effectiveText)
        #expect(again.worker.handlers.first?.settings == handler.settings)
    }

    @Test("handlers share one directory of endpoints")
    func directory() throws {
        let loaded = try WorkerCommandTests.load(
            """
            handlers:
              a: { http: { endpoint: $.endpoint } }
              b: { http: { endpoint: $.customer } }
              c: { http: { url: $.url } }
            """
        )
        #expect(EndpointDirectory.directories(of: loaded.worker.handlers).count == 1)
    }

    @Test("takes a URL from the payload")
    func payloadURL() throws {
        guard case .payload(let path) = try plugin("{ url: $.to.url }").target else {
            Issue.record("it is something else")
            return
        }
        #expect(path == ["to", "url"])
    }

    @Test("takes a method, a body, a content type and the statuses of a success")
    func format() throws {
        let text =
            #"{ url: "http://h/", method: PUT, body: { a: $.x, b: ["$$5", 1, true, ~, "$"], c: { d: '$["e f"]' } }, "#
            + #"content_type: application/vnd.api+json, success: [2xx, 409] }"#
        let format = try plugin(text).format
        #expect(format.method == .put)
        #expect(format.contentType == "application/vnd.api+json")
        #expect(format.success == [200...299, 409...409])
        #expect(
            format.body
                == .object([
                    .init("a", .value(at: ["x"])),
                    .init("b", .list([.json(#""$5""#), .json("1"), .json("true"), .json("null"), .payload])),
                    .init("c", .object([.init("d", .value(at: ["e f"]))])),
                ])
        )
        let loaded = try load(http: text)
        let again = try WorkerCommandTests.load(loaded.effectiveText)
        #expect((again.worker.handlers.first?.plugin as? HTTPPlugin)?.format == format)
        #expect(try plugin(#"{ url: "http://h/" }"#).format == RequestFormat())
        #expect(try plugin(#"{ url: "http://h/", body: $.data }"#).format.body == .value(at: ["data"]))
    }

    @Test(
        "is refused with the key, and what to do",
        arguments: [
            ("{ endpoint: acme }", "endpoint: 'acme' is not a path; write $.acme for what stands there in the payload"),
            ("{ endpoint: $ }", "endpoint: '$' is not the path of one value"),
            (#"{ endpoint: $.e, url: "http://h/" }"#, "endpoint: there is a url as well; give one of them"),
            ("{ endpoint: $.e, secret: whsec_x }", "secret: each endpoint has secrets of its own"),
            (
                "{ endpoint: $.e, disable_after: 1s }",
                "disable_after: '1s' is not allowed; give a duration from 1m to 366d"
            ),
            (
                "{ endpoint: $.e, when_disabled: drop }",
                "when_disabled: 'drop' is not allowed; give one of hold, dead_letter"
            ),
            (#"{ url: "http://h/", disable_after: 1d }"#, "disable_after: this is for endpoints, and there is none"),
            (#"{ url: "http://h/", method: post }"#, "method: 'post' is not allowed; give one of GET"),
            (#"{ url: "http://h/", method: GET, body: $.a }"#, "body: a GET request has no body"),
            (#"{ url: "http://h/", body: { a: "$.b c" } }"#, "body: '$.b c' is not the path of one value"),
            (#"{ url: "http://h/", content_type: json }"#, #"content_type: "json" is not a content type"#),
            (
                #"{ url: "http://h/", success: [100] }"#,
                "success: [0] '100' is not allowed; give a status from 200 to 599"
            ),
            (#"{ url: "http://h/", success: [] }"#, "success: the statuses that count as a success must be 200 to 599"),
            (
                #"{ url: "http://h/", headers: { content-type: a/b }, content_type: a/b }"#,
                "content_type: the headers have a Content-Type as well"
            ),
        ]
    )
    func refusals(http: String, message: String) {
        let found = problems(http)
        #expect(found.count == 1, "\(found)")
        #expect(found.first?.contains("handlers.a.http.\(message)") == true, "\(found)")
    }

    @Test("each endpoint has its own circuit, so another key is refused", arguments: ["$.other", "shared", "off"])
    func otherKey(key: String) {
        let found = problems("{ endpoint: $.e }", ", circuit: { key: \(key) }")
        #expect(
            found.count == 1 && found[0].contains("each endpoint has a circuit of its own, whose key is $.e"),
            "\(found)"
        )
        #expect(problems("{ endpoint: $.e }", ", circuit: { key: $.e }").isEmpty)
    }
}
