/// How one run of a job ended. The class decides what becomes of the job and what its circuit learns.
public enum JobOutcome: Sendable, Equatable {
    /// The work is done. Counts as a success for the circuit.
    ///
    /// `result` is one JSON value as text; it is kept only when the handler's `keep_results` says so.
    case succeeded(result: String? = nil)
    /// It went wrong this time: the job is retried with backoff. Counts as a failure for the circuit.
    case failed(JobFailure)
    /// What the job depends on is down (refused, timed out, 503): retried with backoff, or after `retryAfter` if that
    /// is longer.
    ///
    /// Counts as a failure for the circuit. The attempt is handed back if the run was a probe.
    case unavailable(JobFailure, retryAfter: Duration? = nil)
    /// The dependency asked for fewer calls (429): run again after `retryAfter`. Spends no attempt.
    ///
    /// Zero means that it did not say when. The job then waits a second to a second and a half, and twice as long each
    /// further time in a row, up to an hour or an hour and a half. Defaults to zero.
    case throttled(JobFailure, retryAfter: Duration = .zero)
    /// This worker could not run the job, for reasons of its own: it has no descriptor, process or memory left, or
    /// there is no such program. Another worker may run it.
    ///
    /// Spends no attempt; the circuit ignores it, and so do the retry rules and the circuit's rules for names. The job
    /// waits a second to a second and a half, and twice as long each further time in a row, up to a minute and its
    /// half. The worker suspends itself for the kind, and its log, `breakwater.suspension_status` and `worker status`
    /// show the failure's message: for 5 seconds, twice as long each time that this goes on, up to a minute. Then it
    /// runs one job at a time until one ends in another way.
    ///
    /// ``JobFailure/init(limit:while:)`` makes the failure from an error number. Say it only where the job cannot be
    /// the cause: nothing else bounds how often such a job is run.
    case unable(JobFailure)
    /// This job can never work: it goes to the dead letters at once. The circuit ignores it.
    case discarded(JobFailure)
    /// Not yet: run again after this time. Spends no attempt; the circuit ignores it.
    case snoozed(Duration)
    /// The run did not take place or was given up for reasons that are not the job's: shutdown, a circuit that
    /// opened, a lost lease. Spends no attempt; the circuit ignores it.
    case released
}

/// What went wrong in one run. A handler may also throw it; it then counts as ``JobOutcome/failed(_:)``.
public struct JobFailure: Error, Sendable, Equatable, CustomStringConvertible {
    /// A short, stable name that retry rules and people can match: `http.503`, `exit.75`, `timeout`, `DecodingError`.
    public var name: String
    /// What happened, for people. Kept with the job, cut to 8 KiB.
    public var message: String

    /// - Parameters:
    ///   - name: A short, stable name, such as `http.503`.
    ///   - message: What happened, for people.
    public init(_ name: String, _ message: String) {
        self.name = name
        self.message = message
    }

    /// The name and the message.
    public var description: String { "\(name): \(message)" }
}
