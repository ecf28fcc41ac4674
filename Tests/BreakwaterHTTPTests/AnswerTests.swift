import BreakwaterTesting
import Breakwater
import BreakwaterHTTP
import Testing

@Suite struct AnswerTests {
    @Test(arguments: [
        (200, OutcomeClass.succeeded), (201, .succeeded), (202, .succeeded), (204, .succeeded), (299, .succeeded),
        (300, .failed), (301, .failed), (302, .failed), (303, .failed), (304, .failed), (307, .failed), (308, .failed),
        (400, .discarded), (401, .discarded), (403, .discarded), (404, .discarded), (408, .failed), (409, .discarded),
        (410, .discarded), (413, .discarded), (422, .discarded), (423, .failed), (424, .discarded), (425, .failed),
        (429, .throttled), (451, .discarded),
        (500, .failed), (501, .failed), (502, .unavailable), (503, .unavailable), (504, .unavailable), (505, .failed),
        (528, .failed), (529, .unavailable), (599, .failed), (600, .failed),
    ])
    func everyStatusHasItsClass(status: Int, expected: OutcomeClass) async throws {
        let outcome = try await outcome(of: .answer(status))
        #expect(outcome.outcomeClass == expected)
        if expected != .succeeded { #expect(outcome.failure?.name == "http.\(status)") }
    }

    @Test(arguments: [
        ("{\"id\": 7}", "{\"id\": 7}"), ("ok", "\"ok\""), ("\"a\\u0000b\"", "\"ab\""), ("a\0b", "\"ab\""),
    ])
    func theBodyOfASuccessIsItsResult(body: String, result: String) async throws {
        #expect(try await outcome(of: .answer(200, body: body)) == .succeeded(result: result))
    }

    @Test func noBodyIsNoResult() async throws {
        #expect(try await outcome(of: .answer(204)) == .succeeded(result: nil))
    }

    @Test func aFailureShowsTheBeginningOfTheBody() async throws {
        let body = "broken: " + String(repeating: "é", count: 5000) + "end"
        let message = try #require(try await outcome(of: .answer(500, body: body)).failure?.message)
        #expect(message.contains("/ answered 500: broken: é"))
        #expect(message.utf8.count < 1200)
        #expect(message.hasSuffix("é…"))
        #expect(!message.contains("end"))
    }

    @Test func brokenTextInTheBodyIsRepaired() async throws {
        let message = try await outcome(of: .answer(500, body: "a\0b")).failure?.message
        #expect(message?.hasSuffix(": ab") == true)
    }

    @Test func redirectsAreRefused() async throws {
        let elsewhere = try TestServer { _ in .answer(200) }
        defer { elsewhere.stop() }
        let outcome = try await outcome(of: .answer(307, headers: ["Location": elsewhere.url + "/?token=hidden"]))
        #expect(outcome.outcomeClass == .failed)
        #expect(outcome.failure?.message.contains("redirects are refused") == true)
        #expect(outcome.failure?.message.contains("hidden") == false)
        #expect(elsewhere.connections == 0)
    }

    @Test(arguments: [
        (429, "120", Duration.seconds(120)), (503, "7", .seconds(7)), (529, "7", .seconds(7)), (429, "0", .zero),
        (429, "soon", .zero), (503, "soon", nil),
        (429, "9999999999", .seconds(86_400)), (429, "Sun, 06 Nov 1994 08:49:37 GMT", .zero),
    ])
    func retryAfterIsHonoured(status: Int, value: String, expected: Duration?) async throws {
        let outcome = try await outcome(of: .answer(status, headers: ["Retry-After": value]))
        #expect(outcome.retryAfter == expected)
    }

    @Test(arguments: [(429, Duration.zero), (503, nil), (502, nil)])
    func withoutRetryAfter(status: Int, expected: Duration?) async throws {
        #expect(try await outcome(of: .answer(status)).retryAfter == expected)
    }

    @Test func retryAfterOfOtherAnswersIsIgnored() async throws {
        #expect(try await outcome(of: .answer(502, headers: ["Retry-After": "9"])).retryAfter == nil)
    }

    @Test func interimAnswersDoNotCount() async throws {
        let text = "HTTP/1.1 103 Early Hints\r\nRetry-After: 9\r\n\r\nHTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n"
        let outcome = try await outcome(of: .raw(text))
        #expect(outcome.failure?.name == "http.503")
        #expect(outcome.retryAfter == nil)
    }

    @Test func aLongBodyIsCutAndTheStatusCounts() async throws {
        let log = RecordedLog()
        let outcome = try await outcome(of: .huge(100 << 20), maxResponseBytes: 1000, log: log)
        #expect(outcome == .succeeded(result: "\"" + String(repeating: "x", count: 1000) + "\""))
        #expect(log.warnings.count == 1)
    }

    @Test func aBodyAtTheBoundIsWhole() async throws {
        let log = RecordedLog()
        let outcome = try await outcome(of: .answer(200, body: "[1,2]"), maxResponseBytes: 5, log: log)
        #expect(outcome == .succeeded(result: "[1,2]"))
        #expect(log.warnings.isEmpty)
    }

    @Test func tooManyHeadersFail() async throws {
        let headers = (0..<2000).map { "X-\($0): \(String(repeating: "y", count: 50))\r\n" }.joined()
        let outcome = try await outcome(of: .raw("HTTP/1.1 200 OK\r\n\(headers)\r\n"))
        #expect(outcome.outcomeClass == .failed)
        #expect(outcome.failure?.name == "http.headers")
        #expect(outcome.failure?.message.hasSuffix("the answer has more than 65536 bytes of headers") == true)
    }

    @Test("a header line that is too long fails the job and is named", arguments: [70_000, 200_000, 5_000_000])
    func longHeaderLine(length: Int) async throws {
        let line = "X: " + String(repeating: "y", count: length)
        let outcome = try await outcome(of: .raw("HTTP/1.1 200 OK\r\n\(line)\r\n\r\n"))
        #expect(outcome.outcomeClass == .failed)
        #expect(outcome.failure?.name == "http.headers")
        #expect(
            outcome.failure?.message.hasSuffix("a line of the answer's headers is longer than 65536 bytes") == true
        )
    }
}
