import Tracing

/// Makes a consumer span of each run, which continues the trace in which the job was enqueued.
///
/// The span is a child of the producer's span, so that one trace contains the whole history of a job. It is also linked
/// to it, as OpenTelemetry's conventions for messaging require. Each attempt has its own span.
struct RunTracer: Sendable {
    private let tracer: any Tracer

    /// - Returns: Nil if tracing is not set up, so that runs have no cost for it.
    init?(_ tracer: any Tracer) {
        guard !(tracer is NoOpTracer) else { return nil }
        self.tracer = tracer
    }

    /// Runs a job within a span.
    ///
    /// - Parameters:
    ///   - job: The job as claimed.
    ///   - body: Runs the job. It receives the job with the span's own trace context, which the handler may pass on,
    ///     and runs with the span as the current one.
    func run(_ job: Job, _ body: (Job) async -> JobOutcome) async -> JobOutcome {
        let access = TraceCarrier.Access()
        var producer = ServiceContext.topLevel
        let given = TraceCarrier(traceparent: job.traceparent, tracestate: job.tracestate)
        tracer.extract(given, into: &producer, using: access)
        let span = tracer.startAnySpan("process \(job.kind)", context: producer, ofKind: .consumer)
        if given.traceparent != nil { span.addLink(SpanLink(context: producer, attributes: [:])) }
        span.updateAttributes { attributes in
            attributes[.system] = "breakwater"
            attributes[.destination] = .string(job.queue)
            attributes[.operation] = "process"
            attributes[.operationType] = "process"
            attributes[.message] = .string("\(job.id)")
            attributes[.bodySize] = .int64(Int64(job.payload.utf8.count))
            attributes[.kind] = .string(job.kind)
            attributes[.attempt] = .int64(Int64(job.attempt))
            attributes[.priority] = .int64(Int64(job.priority))
            attributes[.probe] = .bool(job.isProbe)
        }

        var job = job
        var carrier = TraceCarrier()
        tracer.inject(span.context, into: &carrier, using: access)
        if carrier.traceparent != nil {
            job.traceparent = carrier.traceparent
            job.tracestate = carrier.tracestate
        }
        let outcome = await ServiceContext.withValue(span.context) { await body(job) }

        span.updateAttributes { attributes in
            attributes[.outcome] = .string(outcome.outcomeClass.rawValue)
            if let failure = outcome.failure { attributes[.error] = .string(failure.name) }
        }
        if let failure = outcome.failure { span.setStatus(SpanStatus(code: .error, message: failure.name)) }
        span.end()
        return outcome
    }
}

extension SpanAttributes {
    /// An attribute with a key of this library.
    subscript(key: SpanKey) -> SpanAttribute? {
        get { get(key.rawValue) }
        set { self[key.rawValue] = newValue }
    }
}
