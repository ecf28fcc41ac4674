package import Breakwater

extension EndpointDirectory {
    /// The directories that these handlers use, each once. Each knows the kinds of its handlers from now on.
    package static func directories(of handlers: [HandlerRegistration]) -> [EndpointDirectory] {
        var directories: [EndpointDirectory] = []
        for handler in handlers {
            guard let plugin = handler.plugin as? HTTPPlugin,
                case .endpoint(let path, let directory, let rule) = plugin.target
            else { continue }
            directory.register(handler.kind, path: path, rule: rule)
            if !directories.contains(where: { $0 === directory }) { directories.append(directory) }
        }
        return directories
    }
}

extension HTTPPlugin {
    /// How long a job waits whose endpoint is disabled, if it was claimed nevertheless: because it was claimed just
    /// before, or because the kind has too many circuits to hold one more endpoint.
    static let disabledDelay = 300.0...600.0

    /// Runs a job that is sent to an endpoint.
    func run(
        _ job: Job,
        _ payload: [UInt8],
        endpointAt path: [String],
        _ directory: EndpointDirectory,
        _ rule: EndpointRule,
        _ context: JobContext
    ) async throws -> JobOutcome {
        guard let name = JSONSlice(path, in: payload)?.text, !name.isEmpty else {
            return .discarded(
                JobFailure("endpoint.missing", "the payload names no endpoint at \(path.jsonPathText)")
            )
        }
        directory.register(job.kind, path: path, rule: rule)
        let row: EndpointRow
        switch await directory.find(name, within: context.remainingTime) {
        case .found(let found): row = found
        case .none:
            return .discarded(JobFailure("endpoint.unknown", "there is no endpoint '\(name)' in breakwater.endpoint"))
        case .unreachable(let reason):
            return .unable(JobFailure("endpoint.unreadable", "this worker cannot read breakwater.endpoint: \(reason)"))
        case .cancelled: throw CancellationError()
        }
        if let reason = row.disabledReason {
            switch rule.whenDisabled {
            case .hold: return .snoozed(.seconds(Double.random(in: Self.disabledDelay)))
            case .deadLetter:
                return .discarded(JobFailure("endpoint.disabled", "the endpoint '\(name)' is disabled: \(reason)"))
            }
        }
        let destination: HTTPDestination
        do {
            destination = try destinations.destination(of: row) {
                let own = Set(row.headers.keys.map { $0.lowercased() })
                let merged = headers.filter { !own.contains($0.key.lowercased()) }.merging(row.headers) { $1 }
                return try self.destination(url: row.url, headers: merged, secrets: row.secrets)
            }
        } catch let error as HTTPPluginError {
            // It can be mended without the job's help, so the job is retried.
            let failure = JobFailure("endpoint.invalid", "the endpoint '\(name)': \(error.message)")
            directory.failed(job.kind, name, failure.message, isGone: false)
            return .failed(failure)
        }
        let outcome = try await send(job, payload, to: destination, context)
        report(outcome, of: job, to: row, directory)
        return outcome
    }

    /// Reports how a delivery ended, for the rule that disables endpoints.
    private func report(_ outcome: JobOutcome, of job: Job, to row: EndpointRow, _ directory: EndpointDirectory) {
        switch outcome {
        case .succeeded:
            directory.succeeded(job.kind, row.name, wasFailing: row.isFailing)
        case .failed(let failure), .unavailable(let failure, _), .discarded(let failure):
            // A job whose body cannot be made says nothing about the endpoint.
            guard failure.name != "http.body" else { return }
            directory.failed(job.kind, row.name, failure.message, isGone: failure.name == "http.410")
        // The endpoint limits the rate, or this worker is at fault.
        case .throttled, .unable, .snoozed, .released: break
        }
    }
}
