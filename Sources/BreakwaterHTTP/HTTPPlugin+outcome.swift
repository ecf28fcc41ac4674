import Breakwater

extension HTTPPlugin {
    /// The most bytes of an answer's body that a failure shows.
    static let excerptBytes = 1024

    /// The outcome of a job whose request got a complete answer.
    func outcome(
        of response: HTTPResponse,
        from destination: HTTPDestination,
        _ context: JobContext
    ) -> JobOutcome {
        guard format.isSuccess(response.status) else {
            return outcome(of: response, message: message(for: response, from: destination))
        }
        if response.isBodyCut { context.logger.resultWasCut(kept: maxResponseBytes) }
        return .succeeded(result: result(of: response, from: destination))
    }

    /// The kept result of a success. A server may echo the request, so the secrets are removed.
    private func result(of response: HTTPResponse, from destination: HTTPDestination) -> String? {
        guard destination.isSecret(in: response.body) else {
            return JobResult.json(from: response.body, isCut: response.isBodyCut)
        }
        let text = destination.redacted(JobResult.text(from: response.body, isCut: response.isBodyCut))
        return JobResult.json(from: Array(text.utf8), isCut: response.isBodyCut)
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
    func outcome(of failure: HTTPTransferFailure, from destination: HTTPDestination) -> JobOutcome {
        let request = "\(format.method.rawValue) \(destination.endpoint.display)"
        if let missing = failure.missing {
            return .unable(JobFailure(missing.name, destination.redacted("\(request): \(missing.message)")))
        }
        var message = "\(request): \(failure.reason)"
        if let response = failure.response {
            guard format.isSuccess(response.status) else {
                let message = self.message(for: response, from: destination, brokeOff: failure.reason)
                return outcome(of: response, message: message)
            }
            message = "\(request) answered \(response.status), and the answer broke off: \(failure.reason)"
        }
        if failure.code == .refusedAddress { message += "; to connect to it anyway, list it in the handler's 'allow'" }
        let failed = JobFailure("http.\(failure.code.rawValue)", destination.redacted(message))
        switch failure.code {
        case .dns, .connection, .tls, .timeout: return .unavailable(failed)
        case .refusedAddress, .headers, .protocol, .client, .worker: return .failed(failed)
        }
    }

    private func message(
        for response: HTTPResponse,
        from destination: HTTPDestination,
        brokeOff reason: String? = nil
    ) -> String {
        var message = "\(format.method.rawValue) \(destination.endpoint.display) answered \(response.status)"
        if let reason { message += ", and the answer broke off (\(destination.redacted(reason)))" }
        if (200..<300).contains(response.status) { message += ", which is not a status that it should answer" }
        if (300..<400).contains(response.status) {
            message += "; redirects are refused: set the url to the final address"
        }
        let text = destination.redacted(JobResult.text(from: response.body, isCut: response.isBodyCut))
        let isCut = text.utf8.count > Self.excerptBytes
        let excerpt = JobResult.text(from: Array(text.utf8.prefix(Self.excerptBytes)), isCut: isCut)
        return excerpt.isEmpty ? message : "\(message): \(excerpt)\(isCut ? "…" : "")"
    }
}
