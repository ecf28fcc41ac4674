import CLibcrypto
import Foundation

/// The key of a Standard Webhooks signature (HMAC-SHA256, version `v1`).
///
/// The receiver computes the same code over `id.timestamp.body` and compares it. It also refuses old timestamps. See
/// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
struct WebhookKey: Sendable, CustomStringConvertible, CustomReflectable {
    private let bytes: [UInt8]

    /// - Parameter secret: `whsec_` and 24 to 64 bytes in Base64.
    /// - Throws: ``HTTPPluginError`` when the secret has another form. The message does not show the secret.
    init(_ secret: String) throws {
        let prefix = "whsec_"
        guard secret.hasPrefix(prefix), let key = Data(base64Encoded: String(secret.dropFirst(prefix.count))) else {
            throw HTTPPluginError(
                .invalidSecret,
                "the secret is not a Standard Webhooks key: it must be 'whsec_' followed by Base64"
            )
        }
        guard (24...64).contains(key.count) else {
            throw HTTPPluginError(.invalidSecret, "the secret's key has \(key.count) bytes: it must have 24 to 64")
        }
        bytes = Array(key)
    }

    /// The headers that sign a message with each of some keys, so that a receiver needs to know only one of them; none
    /// without a key.
    ///
    /// - Parameters:
    ///   - keys: The keys.
    ///   - id: The message's identity, the same for every attempt to deliver it.
    ///   - time: When this attempt is made.
    ///   - body: The request's body.
    static func headers(of keys: [WebhookKey], id: String, time: Date, body: [UInt8]) -> [(String, String)] {
        guard !keys.isEmpty else { return [] }
        let timestamp = String(Int64(time.timeIntervalSince1970))
        let message = Array("\(id).\(timestamp).".utf8) + body
        let codes = keys.map { "v1,\(Data($0.authenticationCode(of: message)).base64EncodedString())" }
        return [
            ("webhook-id", id),
            ("webhook-timestamp", timestamp),
            ("webhook-signature", codes.joined(separator: " ")),
        ]
    }

    /// The headers that sign a message with this key alone.
    func headers(id: String, time: Date, body: [UInt8]) -> [(String, String)] {
        Self.headers(of: [self], id: id, time: time, body: body)
    }

    private func authenticationCode(of message: [UInt8]) -> [UInt8] {
        var code = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
        var length: UInt32 = 0
        HMAC(EVP_sha256(), bytes, Int32(bytes.count), message, message.count, &code, &length)
        return Array(code.prefix(Int(length)))
    }

    var description: String { "WebhookKey" }
    var customMirror: Mirror { Mirror(self, children: []) }
}
