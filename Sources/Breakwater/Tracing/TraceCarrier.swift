import Tracing

/// The W3C trace context as it is kept with a job and handed to handlers.
struct TraceCarrier: Sendable {
    var traceparent: String?
    var tracestate: String?

    /// How tracers read and write it.
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
    /// The trace that its run belongs to, and the span in it, as far as the trace context tells.
    var traceIDs: (trace: Substring, span: Substring)? {
        guard let parts = traceparent?.split(separator: "-"), parts.count >= 4, parts[1].utf8.count == 32,
            parts[2].utf8.count == 16
        else { return nil }
        return (parts[1], parts[2])
    }
}
