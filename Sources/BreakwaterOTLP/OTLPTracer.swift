public import Tracing

/// Makes spans, and passes the sampled ones to an exporter when they end.
///
/// ```swift
/// let exporter = try OTLPExporter(configuration, logger: logger)
/// InstrumentationSystem.bootstrap(exporter.tracer)
/// // … and run the exporter as a service.
/// ```
package struct OTLPTracer: Tracer {
    private let queue: SpanQueue
    private let sampler: Sampler

    /// - Parameter exporter: The exporter of the spans.
    package init(_ exporter: OTLPExporter) {
        queue = exporter.queue
        sampler = exporter.configuration.sampler
    }

    /// Starts a span, as a child of the context's span or as the root of a new trace.
    package func startSpan<Instant: TracerInstant>(
        _ operationName: String,
        context: @autoclosure () -> InstrumentationContext,
        ofKind kind: SpanKind,
        at instant: @autoclosure () -> Instant,
        function: String,
        file fileID: String,
        line: UInt
    ) -> OTLPSpan {
        var context = context()
        let parent = context.spanIdentity
        let identity = SpanIdentity.new(in: parent) { sampler.samples(trace: $0, parent: parent) }
        context.spanIdentity = identity
        return OTLPSpan(
            operationName,
            kind: kind,
            identity: identity,
            parent: parent?.span,
            context: context,
            start: instant().nanosecondsSinceEpoch,
            queue: identity.isSampled ? queue : nil
        )
    }

    /// Requests that waiting spans are sent now, without waiting for this.
    package func forceFlush() { queue.requestSending() }

    /// Reads the W3C trace context.
    package func extract<Carrier, Extract>(
        _ carrier: Carrier,
        into context: inout InstrumentationContext,
        using extractor: Extract
    ) where Extract: Extractor, Extract.Carrier == Carrier {
        guard let traceparent = extractor.extract(key: "traceparent", from: carrier) else { return }
        context.spanIdentity = SpanIdentity(
            traceparent: traceparent,
            tracestate: extractor.extract(key: "tracestate", from: carrier)
        )
    }

    /// Writes the W3C trace context.
    package func inject<Carrier, Inject>(
        _ context: InstrumentationContext,
        into carrier: inout Carrier,
        using injector: Inject
    ) where Inject: Injector, Inject.Carrier == Carrier {
        guard let identity = context.spanIdentity else { return }
        injector.inject(identity.traceparent, forKey: "traceparent", into: &carrier)
        if let state = identity.state { injector.inject(state, forKey: "tracestate", into: &carrier) }
    }
}

extension OTLPExporter {
    /// A tracer whose spans this exporter sends.
    public var tracer: any Tracer { OTLPTracer(self) }
}
