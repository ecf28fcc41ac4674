import Breakwater
import Foundation
import Testing

@testable import BreakwaterHTTP

@Suite struct RequestTests {
    private func request(
        _ plugin: (TestServer) throws -> HTTPPlugin,
        job: Job = Job(kind: "test")
    ) async throws -> TestServer.Request {
        try await withServer({ _ in .answer(200) }) { server in
            #expect(try await run(try plugin(server), job) == .succeeded())
            return try #require(server.requests.first)
        }
    }

    @Test func itCarriesTheJob() async throws {
        let job = Job(
            id: 7,
            queue: "bulk",
            kind: "a\r\nb: é%",
            payload: "{\"a\": 1}",
            attempt: 2,
            maxAttempts: 9,
            traceparent: "00-ab-cd-01"
        )
        let before = Date()
        var seen = try await request({ try HTTPPlugin(url: $0.url + "/hook?x=1") }, job: job)
        #expect(seen.line == "POST /hook?x=1 HTTP/1.1")
        #expect(seen.body == Array("{\"a\": 1}".utf8))
        let deadlineText = seen.headers.removeValue(forKey: "breakwater-deadline")
        let style = Date.ISO8601FormatStyle(includingFractionalSeconds: true)
        let deadline = try Date(#require(deadlineText), strategy: style)
        // This is the default limit of `run`, counted from any time during the test.
        #expect(deadline > before + 299 && deadline < Date() + 301)
        seen.headers["host"] = nil
        #expect(
            seen.headers == [
                "accept": "*/*",
                "breakwater-attempt": "2",
                "breakwater-job-id": "7",
                "breakwater-kind": "a%0D%0Ab: %C3%A9%25",
                "breakwater-max-attempts": "9",
                "breakwater-queue": "bulk",
                "content-length": "8",
                "content-type": "application/json",
                "idempotency-key": "breakwater-7",
                "traceparent": "00-ab-cd-01",
                "user-agent": "breakwater",
            ]
        )
    }

    @Test func configuredHeadersAreSent() async throws {
        let headers = ["Authorization": "Bearer abc", "content-type": "application/cloudevents+json", "X-Empty": ""]
        let seen = try await request { try HTTPPlugin(url: $0.url, headers: headers) }
        #expect(seen.headers["authorization"] == "Bearer abc")
        #expect(seen.headers["content-type"] == "application/cloudevents+json")
        #expect(seen.headers["x-empty"] == "")
        #expect(seen.headers["traceparent"] == nil)
        #expect(seen.headers["expect"] == nil)
    }

    @Test func itIsSignedAsStandardWebhooks() async throws {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        let job = Job(id: 7, kind: "test", payload: "{\"test\": 2432232314}")
        let start = Date().timeIntervalSince1970
        let seen = try await request({ try HTTPPlugin(url: $0.url, secret: secret) }, job: job)
        #expect(seen.headers["webhook-id"] == "breakwater-7")
        let timestamp = try #require(seen.headers["webhook-timestamp"].flatMap { Int64($0) })
        #expect((start - 2...Date().timeIntervalSince1970 + 2).contains(Double(timestamp)))
        // A receiver computes the signature over the body that it received, and so does this.
        let expected = try WebhookKey(secret).headers(
            id: "breakwater-7",
            time: Date(timeIntervalSince1970: Double(timestamp)),
            body: seen.body
        )
        #expect(seen.headers["webhook-signature"] == expected.last?.1)
    }

    @Test func theSignatureOfAKnownMessageIsTheKnownOne() throws {
        // This is the test vector of the reference libraries.
        let key = try WebhookKey("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        let headers = key.headers(
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
            time: Date(timeIntervalSince1970: 1_614_265_330),
            body: Array("{\"test\": 2432232314}".utf8)
        )
        #expect(headers.map(\.1).last == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
    }
}
