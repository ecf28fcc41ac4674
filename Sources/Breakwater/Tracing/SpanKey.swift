/// The attributes of the library's spans. Their names follow OpenTelemetry's conventions for messaging where these
/// define one.
package enum SpanKey: String, CaseIterable {
    /// Always `breakwater`.
    case system = "messaging.system"
    /// The queue.
    case destination = "messaging.destination.name"
    /// The operation: `enqueue` or `process`.
    case operation = "messaging.operation.name"
    /// OpenTelemetry's type of the operation: `send` or `process`.
    case operationType = "messaging.operation.type"
    /// The job's id.
    case message = "messaging.message.id"
    /// The payload's size in bytes. The payload itself is never included.
    case bodySize = "messaging.message.body.size"
    /// The kind of job.
    case kind = "breakwater.kind"
    /// The number of the counted run, starting from 1.
    case attempt = "breakwater.attempt"
    /// The priority from 0 (first) to 9 (last).
    case priority = "breakwater.priority"
    /// Whether the job is a probe.
    case probe = "breakwater.circuit.probe"
    /// The class of the outcome: `succeeded`, `failed`, ….
    case outcome = "breakwater.outcome"
    /// The failure's name, such as `http.503`. Its message is not included, because it may contain any data.
    case error = "error.type"
}
