import Foundation

/// Where requests are sent, with the headers and the keys of that place.
struct HTTPDestination: Sendable {
    let endpoint: HTTPEndpoint
    let headers: HTTPHeaders
    /// Each key signs each request.
    let keys: [WebhookKey]
    let policy: DestinationPolicy
    /// Secrets that an answer might echo and that failures must not show.
    let secrets: [String]

    /// - Parameters:
    ///   - url: The URL.
    ///   - headers: Headers that every request carries.
    ///   - secrets: The keys that sign requests.
    ///   - allow: What the host may be or resolve to in addition to public addresses.
    ///   - isFromOperator: Whether the operator wrote the URL. Otherwise an address or `localhost` in it is not allowed
    ///     unless `allow` lists it.
    /// - Throws: ``HTTPPluginError`` when a value is not allowed.
    init(
        url: String,
        headers: [String: String],
        secrets: [String],
        allow: [String],
        isFromOperator: Bool
    ) throws {
        endpoint = try HTTPEndpoint(url)
        self.headers = try HTTPHeaders(headers)
        keys = try secrets.map { try WebhookKey($0) }
        policy = try DestinationPolicy(host: endpoint.host, allow: allow, isFromOperator: isFromOperator)
        self.secrets = Self.secrets(in: headers, secrets: secrets, query: endpoint.query)
    }

    /// The headers that sign a message: none without a key.
    func signature(id: String, body: [UInt8]) -> [(String, String)] {
        WebhookKey.headers(of: keys, id: id, time: Date(), body: body)
    }

    /// The text with the secrets removed, because some servers echo the request in their errors.
    func redacted(_ text: String) -> String { secrets.reduce(text) { $0.replacing($1, with: "[redacted]") } }

    /// Whether a body contains any of the secrets.
    func isSecret(in body: [UInt8]) -> Bool {
        guard !secrets.isEmpty, !body.isEmpty else { return false }
        let data = Data(body)
        return secrets.contains { data.range(of: Data($0.utf8)) != nil }
    }

    /// The secrets: the values of headers, the parts after a scheme such as `Bearer`, the signing secrets, and the query
    /// with its values.
    private static func secrets(in headers: [String: String], secrets keys: [String], query: String?) -> [String] {
        let harmless: Set = ["accept", "accept-language", "content-type", "user-agent"]
        let values = headers.filter { !harmless.contains($0.key.lowercased()) }.values
        var secrets = Array(values)
        secrets += values.flatMap { $0.split(separator: " ").dropFirst().map(String.init) }
        secrets += keys
        if let query {
            secrets.append(query)
            secrets += query.split(separator: "&").compactMap { pair in
                pair.split(separator: "=", maxSplits: 1).dropFirst().first.map(String.init)
            }
        }
        // In a JSON text, some characters are escaped.
        secrets += secrets.flatMap { secret in
            let escaped = secret.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
            return [escaped, escaped.replacing("/", with: "\\/")].filter { $0 != secret }
        }
        // A shorter text is more likely a word such as "json" than a secret. Longer secrets come first, because one may
        // contain another.
        return secrets.filter { $0.utf8.count >= 8 }.sorted { $0.utf8.count > $1.utf8.count }
    }
}
