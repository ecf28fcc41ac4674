import Breakwater
import Logging

extension HTTPPlugin {
    /// How much of an answer's body a failure shows, in bytes.
    static let excerptBytes = 1024

    /// What a whole answer means for its job.
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

    /// What an answer that is not a success means for its job.
    private func outcome(of response: HTTPResponse, message: String) -> JobOutcome {
        let retryAfter = RetryAfter.duration(response.retryAfter, date: response.date)
        let failure = JobFailure("http.\(response.status)", message)
        return switch response.status {
        case 429: .throttled(failure, retryAfter: retryAfter ?? .zero)
        // 529 is not registered; several services answer it when they are overloaded.
        case 503, 529: .unavailable(failure, retryAfter: retryAfter)
        case 502, 504: .unavailable(failure)
        // A timeout, a locked resource, and a request that came too early: the same request may work later.
        case 408, 423, 425: .failed(failure)
        case 400..<500: .discarded(failure)
        default: .failed(failure)
        }
    }

    /// What the lack of a whole answer means for its job.
    ///
    /// An answer that broke off keeps its status and its class. Only a success does not count, as part of it is
    /// missing.
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

    /// The text without what was configured to be secret: servers echo requests in their errors.
    private func redacted(_ text: String) -> String {
        secrets.reduce(text) { $0.replacing($1, with: "[redacted]") }
    }

    /// The values of headers, what follows a scheme such as `Bearer` in them, the secret, and the query with its
    /// values.
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
