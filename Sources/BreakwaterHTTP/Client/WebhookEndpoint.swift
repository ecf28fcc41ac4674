import Breakwater
package import Foundation

/// A URL of the operator that receives messages. With a secret they are signed according to Standard Webhooks.
package struct WebhookEndpoint: Sendable, CustomStringConvertible {
    private let endpoint: ConfiguredEndpoint
    private let key: WebhookKey?

    /// - Parameters:
    ///   - url: An http or https URL without a user and a password.
    ///   - secret: `whsec_` and 24 to 64 bytes in Base64; nil for no signature.
    /// - Throws: ``HTTPPluginError`` when a value is not allowed. The message does not show the secret.
    package init(url: String, secret: String?) throws {
        endpoint = try ConfiguredEndpoint(url)
        key = try secret.map(WebhookKey.init)
    }

    /// Sends one message.
    ///
    /// - Parameters:
    ///   - message: The body, as JSON.
    ///   - id: The message's identity, the same for every attempt to deliver it.
    ///   - time: When this attempt is made.
    ///   - timeout: The timeout of the request.
    package func send(_ message: String, id: String, at time: Date = Date(), timeout: Duration) async -> HTTPAnswer {
        let body = Array(message.utf8)
        // Without a secret the id is still sent, so that the receiver can recognise a repeated message.
        let signature = key?.headers(id: id, time: time, body: body) ?? [("webhook-id", id)]
        return await endpoint.post(
            body,
            headers: ["Content-Type: application/json", "User-Agent: breakwater", "Idempotency-Key: \(id)"]
                + signature.map { "\($0): \($1)" },
            timeout: timeout,
            maxResponseBytes: 1024
        )
    }

    /// The URL for people, without its query.
    package var description: String { endpoint.display }
}
