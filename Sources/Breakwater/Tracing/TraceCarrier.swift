import Tracing

/// The W3C trace context as it is stored with a job and passed to handlers.
struct TraceCarrier: Sendable {
    var traceparent: String?
    var tracestate: String?

    /// Lets tracers read and write the trace context.
    struct Access: Extractor, Injector {
        func extract(key: String, from carrier: TraceCarrier) -> String? {
            switch key.lowercased() {
            case "traceparent": carrier.traceparent
            case "tracestate": carrier.tracestate
            default: nil
            }
        }

        func inject(_ value: String, forKey key: String, into carrier: inout TraceCarrier) {
            switch key.lowercased() {
            case "traceparent": carrier.traceparent = value
            case "tracestate": carrier.tracestate = value.isEmpty ? nil : value
            default: break
            }
        }
    }
}

extension Job {
    /// The ids of the trace and the span of the job's run, if the trace context has them.
    var traceIDs: (trace: Substring, span: Substring)? {
        guard let parts = traceparent?.split(separator: "-"), parts.count >= 4, parts[1].utf8.count == 32,
            parts[2].utf8.count == 16
        else { return nil }
        return (parts[1], parts[2])
    }
}
