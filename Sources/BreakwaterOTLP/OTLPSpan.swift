import Synchronization
package import Tracing

/// A span, which is recorded until it ends.
package final class OTLPSpan: Span {
    struct Record {
        var name: String
        var attributes: SpanAttributes = [:]
        var events: [SpanEvent] = []
        var links: [SpanLink] = []
        var status: SpanStatus?
        var end: UInt64?
        var droppedEvents = 0
        var droppedLinks = 0
    }

    /// The most events or links that are kept. Further ones are only counted.
    static let mostEvents = 128

    /// The context inside the span.
    package let context: InstrumentationContext
    let kind: SpanKind
    let identity: SpanIdentity
    let parent: String?
    let start: UInt64
    /// The queue for the ended span; nil if the span is not sampled and so is not exported.
    private let queue: SpanQueue?
    private let state: Mutex<Record>

    init(
        _ name: String,
        kind: SpanKind,
        identity: SpanIdentity,
        parent: String?,
        context: InstrumentationContext,
        start: UInt64,
        queue: SpanQueue?
    ) {
        self.kind = kind
        self.identity = identity
        self.parent = parent
        self.context = context
        self.start = start
        self.queue = queue
        state = Mutex(Record(name: name))
    }

    var record: Record { state.withLock(\.self) }

    /// Whether the span still records.
    package var isRecording: Bool { queue != nil && state.withLock { $0.end == nil } }

    /// The span's name.
    package var operationName: String {
        get { state.withLock(\.name) }
        set { change { $0.name = newValue } }
    }

    /// The span's attributes.
    package var attributes: SpanAttributes {
        get { state.withLock(\.attributes) }
        set { change { $0.attributes = newValue } }
    }

    /// Sets the status.
    package func setStatus(_ status: SpanStatus) { change { $0.status = status } }

    /// Adds an event. If there are too many, only the first are kept.
    package func addEvent(_ event: SpanEvent) {
        change { record in
            if record.events.count < Self.mostEvents { record.events.append(event) } else { record.droppedEvents += 1 }
        }
    }

    /// Links the span to another one. If there are too many links, only the first are kept.
    package func addLink(_ link: SpanLink) {
        change { record in
            if record.links.count < Self.mostEvents { record.links.append(link) } else { record.droppedLinks += 1 }
        }
    }

    /// Adds the error as an event with only its type, because its message may contain secrets.
    package func recordError<Instant: TracerInstant>(
        _ error: any Error,
        attributes: SpanAttributes,
        at instant: @autoclosure () -> Instant
    ) {
        var attributes = attributes
        attributes["exception.type"] = "\(type(of: error))"
        addEvent(SpanEvent(name: "exception", at: instant(), attributes: attributes))
    }

    /// Ends the span. The first call queues it to be sent, if it is sampled.
    package func end<Instant: TracerInstant>(at instant: @autoclosure () -> Instant) {
        guard let queue else { return }
        let now = instant().nanosecondsSinceEpoch
        let isFirst = state.withLock { record in
            guard record.end == nil else { return false }
            record.end = max(now, start)
            return true
        }
        if isFirst { queue.add(self) }
    }

    /// Changes the record, unless the span has ended.
    private func change(_ body: (inout Record) -> Void) {
        guard queue != nil else { return }
        state.withLock { record in
            if record.end == nil { body(&record) }
        }
    }
}
