/// The attributes of the library's spans, named by OpenTelemetry's conventions for messaging where these have a name.
package enum SpanKey: String, CaseIterable {
    /// Always `breakwater`.
    case system = "messaging.system"
    /// The queue.
    case destination = "messaging.destination.name"
    /// What is done: `enqueue` or `process`.
    case operation = "messaging.operation.name"
    /// What that is to OpenTelemetry: `send` or `process`.
    case operationType = "messaging.operation.type"
    /// The job's id.
    case message = "messaging.message.id"
    /// The payload's size in bytes. The payload itself is never included.
    case bodySize = "messaging.message.body.size"
    /// The kind of job.
    case kind = "breakwater.kind"
    /// Which counted run it is, from 1.
    case attempt = "breakwater.attempt"
    /// 0 (first) to 9 (last).
    case priority = "breakwater.priority"
    /// Whether a half-open circuit let it through.
    case probe = "breakwater.circuit.probe"
    /// How the run ended: `succeeded`, `failed`, ….
    case outcome = "breakwater.outcome"
    /// The failure's name, such as `http.503`. Its message, which may hold anything, is not included.
    case error = "error.type"
}
