/// What a handler outside this process learns about its job, beside the payload.
///
/// Every plugin passes all of these fields that its job has, in the form of its own names: `max_attempts` is a member of
/// that name in JSON, the variable `BREAKWATER_MAX_ATTEMPTS`, and the header `Breakwater-Max-Attempts`. Only `http` passes
/// no checkpoint, because a server keeps its own state.
package enum JobField: String, Sendable, CaseIterable {
    case id, kind, queue, attempt
    case maxAttempts = "max_attempts"
    /// In the format of RFC 3339 in UTC with milliseconds.
    case deadline
    case idempotencyKey = "idempotency_key"
    case traceparent, tracestate
    /// JSON text.
    case checkpoint
}

extension JobContext {
    /// The fields that a job has, as texts.
    package func fields(of job: Job) -> [(field: JobField, text: String)] {
        var fields: [(field: JobField, text: String)] = [
            (.id, String(job.id)), (.kind, job.kind), (.queue, job.queue), (.attempt, String(job.attempt)),
            (.maxAttempts, String(job.maxAttempts)), (.deadline, deadlineText),
            (.idempotencyKey, job.idempotencyKey),
        ]
        if let traceparent = job.traceparent { fields.append((.traceparent, traceparent)) }
        if let tracestate = job.tracestate { fields.append((.tracestate, tracestate)) }
        if let checkpoint = job.checkpoint { fields.append((.checkpoint, checkpoint)) }
        return fields
    }
}
