import Breakwater

/// A URL that the operator configured for the program's own use, such as the one that traces are sent to.
///
/// Its host may resolve to any address, unlike that of a handler's URL, because only the operator chose it.
package struct ConfiguredEndpoint: Sendable {
    /// The URL for people, without its query.
    package var display: String { endpoint.display }

    private let endpoint: HTTPEndpoint
    private let policy: DestinationPolicy
    private let caFile: String?
    private let client: HTTPClient

    /// - Parameters:
    ///   - url: An http or https URL without a user and a password.
    ///   - caFile: A PEM file of the certificate authorities that are trusted in place of the system's.
    /// - Throws: ``HTTPPluginError`` when the text is not such a URL, or nothing is left to send requests with.
    package init(_ url: String, caFile: String? = nil) throws {
        endpoint = try HTTPEndpoint(url)
        policy = try DestinationPolicy(
            host: endpoint.host,
            allow: IPAddress(endpoint.host) == nil ? [endpoint.host] : []
        )
        self.caFile = caFile
        client = try HTTPClient.shared()
    }

    /// The lines of configured headers for ``post(_:headers:timeout:maxResponseBytes:)``.
    ///
    /// - Throws: ``HTTPPluginError`` for a name or a value that cannot be sent.
    package static func headerLines(_ headers: [String: String]) throws -> [String] {
        try HTTPHeaders(headers).configuredLines
    }

    /// Sends a GET request.
    package func get(timeout: Duration, maxResponseBytes: Int = 64 << 10) async -> HTTPAnswer {
        await send(.get, [], [], timeout, maxResponseBytes)
    }

    /// Sends a POST request with a body.
    ///
    /// - Parameter headers: Lines such as `Content-Type: application/json`.
    package func post(
        _ body: [UInt8],
        headers: [String],
        timeout: Duration,
        maxResponseBytes: Int = 64 << 10
    ) async -> HTTPAnswer {
        // The empty `Expect` keeps curl from waiting for a 100 before it sends the body.
        await send(.post, headers + ["Expect:"], body, timeout, maxResponseBytes)
    }

    private func send(
        _ method: RequestFormat.Method,
        _ headers: [String],
        _ body: [UInt8],
        _ timeout: Duration,
        _ maxResponseBytes: Int
    ) async -> HTTPAnswer {
        await client.send(
            HTTPRequest(
                method: method,
                url: endpoint.url,
                headers: headers,
                body: body,
                timeoutMilliseconds: Int(timeout.inMilliseconds),
                maxResponseBytes: maxResponseBytes,
                policy: policy,
                caFile: caFile
            )
        )
    }
}
