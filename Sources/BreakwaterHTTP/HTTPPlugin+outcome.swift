import Breakwater
import Logging

extension HTTPPlugin {
    /// How much of an answer's body a failure shows, in bytes.
    static let excerptBytes = 1024

    /// What an answer means for its job.
    func outcome(of response: HTTPResponse, logger: Logger) -> JobOutcome {
        let retryAfter = RetryAfter.duration(response.retryAfter, date: response.date)
        let failure = JobFailure("http.\(response.status)", message(for: response))
        switch response.status {
        case 200..<300:
            if response.isBodyCut {
                logger.warning(
                    "The result was cut: the server answered more than is kept",
                    metadata: ["kept_bytes": .stringConvertible(maxResponseBytes)]
                )
            }
            return .succeeded(result: JobResult.json(from: response.body, isCut: response.isBodyCut))
        case 429: return .throttled(failure, retryAfter: retryAfter ?? Self.defaultThrottle)
        case 503: return .unavailable(failure, retryAfter: retryAfter)
        case 502, 504: return .unavailable(failure)
        case 408: return .failed(failure)
        case 400..<500: return .discarded(failure)
        default: return .failed(failure)
        }
    }

    /// What the lack of an answer means for its job.
    func outcome(of failure: HTTPTransferFailure) -> JobOutcome {
        let advice =
            failure.code == .refusedAddress ? "; to connect to it anyway, list it in the handler's 'allow'" : ""
        let failed = JobFailure(
            "http.\(failure.code.rawValue)",
            redacted("POST \(endpoint.display): \(failure.reason)\(advice)")
        )
        switch failure.code {
        case .dns, .connection, .tls, .timeout: return .unavailable(failed)
        case .refusedAddress, .headers, .protocol, .client: return .failed(failed)
        }
    }

    private func message(for response: HTTPResponse) -> String {
        var message = "POST \(endpoint.display) answered \(response.status)"
        if (300..<400).contains(response.status) {
            message += "; redirects are refused: set the handler's url to the final address"
        }
        let text = redacted(JobResult.text(from: response.body, isCut: response.isBodyCut))
        let isCut = text.utf8.count > Self.excerptBytes
        let excerpt = JobResult.text(from: Array(text.utf8.prefix(Self.excerptBytes)), isCut: isCut)
        return excerpt.isEmpty ? message : "\(message): \(excerpt)\(isCut ? "…" : "")"
    }

    /// The text without what was configured to be secret: servers echo requests in their errors.
    private func redacted(_ text: String) -> String {
        secrets.reduce(text) { $0.replacing($1, with: "[redacted]") }
    }

    /// The values of headers, what follows a scheme such as `Bearer` in them, the secret, and the query with its values.
    static func secrets(in headers: [String: String], secret: String?, query: String?) -> [String] {
        let harmless: Set = ["accept", "accept-language", "content-type", "user-agent"]
        let values = headers.filter { !harmless.contains($0.key.lowercased()) }.values
        var secrets = Array(values)
        secrets += values.flatMap { $0.split(separator: " ").dropFirst().map(String.init) }
        if let secret { secrets.append(secret) }
        if let query {
            secrets.append(query)
            secrets += query.split(separator: "&").compactMap { pair in
                pair.split(separator: "=", maxSplits: 1).dropFirst().first.map(String.init)
            }
        }
        // What is shorter is a word like "json" rather than a secret. Longer first: one may be a part of another.
        return secrets.filter { $0.utf8.count >= 8 }.sorted { $0.utf8.count > $1.utf8.count }
    }
}
