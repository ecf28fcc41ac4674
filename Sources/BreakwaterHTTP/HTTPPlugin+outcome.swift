import Breakwater
import Logging

extension HTTPPlugin {
    /// The most bytes of an answer's body that a failure shows.
    static let excerptBytes = 1024

    /// The outcome of a job whose request got a complete answer.
    func outcome(of response: HTTPResponse, logger: Logger) -> JobOutcome {
        switch response.status {
        case 200..<300:
            if response.isBodyCut {
                logger.warning(
                    "The result was cut: the server answered more than is kept",
                    metadata: ["kept_bytes": .stringConvertible(maxResponseBytes)]
                )
            }
            return .succeeded(result: JobResult.json(from: response.body, isCut: response.isBodyCut))
        default: return outcome(of: response, message: message(for: response))
        }
    }

    /// The outcome of a job whose answer is not a success.
    private func outcome(of response: HTTPResponse, message: String) -> JobOutcome {
        let retryAfter = RetryAfter.duration(response.retryAfter, date: response.date)
        let failure = JobFailure("http.\(response.status)", message)
        return switch response.status {
        case 429: .throttled(failure, retryAfter: retryAfter ?? .zero)
        // 529 is not registered, but several services send it when they are overloaded.
        case 503, 529: .unavailable(failure, retryAfter: retryAfter)
        case 502, 504: .unavailable(failure)
        // For a timeout, a locked resource or a request that was too early, the same request may succeed later.
        case 408, 423, 425: .failed(failure)
        case 400..<500: .discarded(failure)
        default: .failed(failure)
        }
    }

    /// The outcome of a job whose request got no complete answer.
    ///
    /// An answer whose body was cut off keeps the class of its status. Only a success does not count, because part of
    /// the result is missing.
    func outcome(of failure: HTTPTransferFailure) -> JobOutcome {
        if let missing = failure.missing {
            return .unable(JobFailure(missing.name, redacted("POST \(endpoint.display): \(missing.message)")))
        }
        var message = "POST \(endpoint.display): \(failure.reason)"
        if let response = failure.response {
            guard (200..<300).contains(response.status) else {
                return outcome(of: response, message: self.message(for: response, brokeOff: failure.reason))
            }
            message =
                "POST \(endpoint.display) answered \(response.status), and the answer broke off: \(failure.reason)"
        }
        if failure.code == .refusedAddress { message += "; to connect to it anyway, list it in the handler's 'allow'" }
        let failed = JobFailure("http.\(failure.code.rawValue)", redacted(message))
        switch failure.code {
        case .dns, .connection, .tls, .timeout: return .unavailable(failed)
        case .refusedAddress, .headers, .protocol, .client, .worker: return .failed(failed)
        }
    }

    private func message(for response: HTTPResponse, brokeOff reason: String? = nil) -> String {
        var message = "POST \(endpoint.display) answered \(response.status)"
        if let reason { message += ", and the answer broke off (\(redacted(reason)))" }
        if (300..<400).contains(response.status) {
            message += "; redirects are refused: set the handler's url to the final address"
        }
        let text = redacted(JobResult.text(from: response.body, isCut: response.isBodyCut))
        let isCut = text.utf8.count > Self.excerptBytes
        let excerpt = JobResult.text(from: Array(text.utf8.prefix(Self.excerptBytes)), isCut: isCut)
        return excerpt.isEmpty ? message : "\(message): \(excerpt)\(isCut ? "…" : "")"
    }

    /// The text with configured secrets removed, because some servers echo the request in their errors.
    private func redacted(_ text: String) -> String {
        secrets.reduce(text) { $0.replacing($1, with: "[redacted]") }
    }

    /// The secrets: the values of headers, the parts after a scheme such as `Bearer`, the signing secret, and the query
    /// with its values.
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
        // A shorter text is more likely a word such as "json" than a secret. Longer secrets come first, because one may
        // contain another.
        return secrets.filter { $0.utf8.count >= 8 }.sorted { $0.utf8.count > $1.utf8.count }
    }
}
