import Foundation
import Testing

@testable import BreakwaterHTTP

/// The vectors of the reference libraries, https://github.com/standard-webhooks/standard-webhooks.
@Suite("Standard Webhooks") struct StandardWebhooksTests {
    /// A message whose signature is known.
    struct Vector: Sendable, CustomTestStringConvertible {
        var secret: String
        var id: String
        var timestamp: Double
        var payload: String
        var signature: String

        var testDescription: String { id }
        var time: Date { Date(timeIntervalSince1970: timestamp) }
    }

    static let vectors = [
        // libraries/javascript/src/webhook.test.ts, and those for Python, Go, Java, PHP, Ruby and C#.
        Vector(
            secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
            timestamp: 1_614_265_330,
            payload: #"{"test": 2432232314}"#,
            signature: "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        ),
        // libraries/rust/src/lib.rs
        Vector(
            secret: "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            id: "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            timestamp: 1_649_367_553,
            payload: #"{"email":"test@example.com","username":"test_user"}"#,
            signature: "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="
        ),
    ]

    @Test("a message is signed as the reference libraries sign it", arguments: vectors)
    func signature(vector: Vector) throws {
        let headers = try WebhookKey(vector.secret)
            .headers(id: vector.id, time: vector.time, body: Array(vector.payload.utf8))
        #expect(headers.map(\.0) == ["webhook-id", "webhook-timestamp", "webhook-signature"])
        #expect(headers.map(\.1) == [vector.id, "\(Int(vector.timestamp))", vector.signature])
    }

    @Test("each key signs, and the signatures are separated by a space, the first key's first", arguments: vectors)
    func severalKeys(vector: Vector) throws {
        let other = try WebhookKey("whsec_" + Data(repeating: 7, count: 24).base64EncodedString())
        let own = try WebhookKey(vector.secret)
        let body = Array(vector.payload.utf8)
        let both = WebhookKey.headers(of: [own, other], id: vector.id, time: vector.time, body: body)
        let single = other.headers(id: vector.id, time: vector.time, body: body)
        #expect(both.last?.1 == "\(vector.signature) \(single.last?.1 ?? "")")
        #expect(both.count == 3)
        #expect(WebhookKey.headers(of: [], id: vector.id, time: vector.time, body: body).isEmpty)
    }
}
