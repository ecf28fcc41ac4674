public import Tracing

/// Makes spans, and hands those that are sampled to an exporter when they end.
///
/// ```swift
/// let exporter = try OTLPExporter(configuration, logger: logger)
/// InstrumentationSystem.bootstrap(OTLPTracer(exporter))
/// // … and run the exporter as a service.
/// ```
public struct OTLPTracer: Tracer {
    private let queue: SpanQueue
    private let sampler: Sampler

    /// - Parameter exporter: Where the spans go.
    public init(_ exporter: OTLPExporter) {
        queue = exporter.queue
        sampler = exporter.configuration.sampler
    }

    /// Starts a span: a child of the one that the context is within, or the first of a new trace.
    public func startSpan<Instant: TracerInstant>(
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

    /// Sends what waits, without waiting for it to arrive.
    public func forceFlush() { queue.wantsSending() }

    /// Reads the W3C's trace context.
    public func extract<Carrier, Extract>(
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

    /// Writes the W3C's trace context.
    public func inject<Carrier, Inject>(
        _ context: InstrumentationContext,
        into carrier: inout Carrier,
        using injector: Inject
    ) where Inject: Injector, Inject.Carrier == Carrier {
        guard let identity = context.spanIdentity else { return }
        injector.inject(identity.traceparent, forKey: "traceparent", into: &carrier)
        if let state = identity.state { injector.inject(state, forKey: "tracestate", into: &carrier) }
    }
}
