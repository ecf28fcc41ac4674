/// The outcome of one run of a job. Its class decides what happens to the job and how the circuit counts the run.
public enum JobOutcome: Sendable, Equatable {
    /// The work is done. Counts as a success for the circuit.
    ///
    /// `result` is one JSON value as text. It is kept only if the handler's `keep_results` is set. For a Swift value, use
    /// ``succeeded(_:)``.
    case succeeded(result: String? = nil)
    /// The run failed. The job is retried with backoff. Counts as a failure for the circuit.
    case failed(JobFailure)
    /// The job's dependency is unavailable (refused, timed out, 503). The job is retried with backoff, or after
    /// `retryAfter` if that is longer.
    ///
    /// Counts as a failure for the circuit. The attempt is handed back if the run was a probe.
    case unavailable(JobFailure, retryAfter: Duration? = nil)
    /// The dependency limits the rate of calls (429). The job runs again after `retryAfter`. Spends no attempt.
    ///
    /// Zero means that the dependency gave no time. The job then waits 1 to 1.5 seconds, and twice as long each further
    /// time in a row, up to 1 to 1.5 hours. Defaults to zero.
    case throttled(JobFailure, retryAfter: Duration = .zero)
    /// This worker could not run the job because the worker lacks something: it has no descriptor, process or memory
    /// left, or the program does not exist. Another worker may be able to run the job.
    ///
    /// Spends no attempt. The circuit ignores it, and so do the retry rules and the circuit's rules for names. The job
    /// waits 1 to 1.5 seconds, and twice as long each further time in a row, up to 60 to 90 seconds. The worker
    /// suspends itself for the kind for 5 seconds, and twice as long each further time, up to a minute. Its log,
    /// `breakwater.suspension_status` and `worker status` show the failure's message. Afterwards the worker runs one
    /// job of the kind at a time until one has another outcome.
    ///
    /// ``JobFailure/init(limit:while:)`` makes the failure from an error number. Use this outcome only if the job
    /// cannot be the cause, because nothing limits how often such a job runs.
    case unable(JobFailure)
    /// The job can never succeed. It is dead-lettered at once. The circuit ignores it.
    case discarded(JobFailure)
    /// The job is to run again after this time. Spends no attempt. The circuit ignores it.
    case snoozed(Duration)
    /// The run did not happen or was ended for reasons outside the job: a shutdown, a circuit that opened, or a lost
    /// lease. Spends no attempt. The circuit ignores it.
    case released
}

extension JobOutcome {
    /// The work is done, with a result that is encoded as JSON.
    ///
    /// - Parameter result: The result. It is kept only if the handler's `keep_results` is set.
    /// - Returns: ``succeeded(result:)``.
    /// - Throws: `EncodingError`. Thrown from a handler, it counts as a failure.
    public static func succeeded(_ result: some Encodable) throws -> JobOutcome {
        .succeeded(result: try encodedJSON(result))
    }
}

/// The failure of one run. A handler may also throw it, which counts as ``JobOutcome/failed(_:)``.
public struct JobFailure: Error, Sendable, Equatable, CustomStringConvertible {
    /// A short, stable name that retry rules and people can match, such as `http.503`, `exit.75`, `timeout`,
    /// `DecodingError`: 1 to 200 bytes without control characters. Of a longer name, the beginning is kept.
    public var name: String
    /// A description for people. It is kept with the job, cut to 8 KiB.
    public var message: String

    /// - Parameters:
    ///   - name: A short, stable name, such as `http.503`.
    ///   - message: A description for people.
    public init(_ name: String, _ message: String) {
        self.name = name
        self.message = message
    }

    /// The name and the message.
    public var description: String { "\(name): \(message)" }
}
