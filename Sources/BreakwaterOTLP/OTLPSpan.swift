import Synchronization
public import Tracing

/// A span that is recorded until it ends, once.
public final class OTLPSpan: Span {
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

    /// More events or links than these are counted and not kept.
    static let mostEvents = 128

    /// The context within the span.
    public let context: InstrumentationContext
    let kind: SpanKind
    let identity: SpanIdentity
    let parent: String?
    let start: UInt64
    /// Nil for a span that is not sampled: nothing of it is kept.
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

    /// Whether what is recorded in it is kept.
    public var isRecording: Bool { queue != nil && state.withLock { $0.end == nil } }

    /// Its name.
    public var operationName: String {
        get { state.withLock(\.name) }
        set { change { $0.name = newValue } }
    }

    /// What else is known of it.
    public var attributes: SpanAttributes {
        get { state.withLock(\.attributes) }
        set { change { $0.attributes = newValue } }
    }

    /// Says how it went.
    public func setStatus(_ status: SpanStatus) { change { $0.status = status } }

    /// Adds something that happened meanwhile; of many, the first are kept.
    public func addEvent(_ event: SpanEvent) {
        change { record in
            if record.events.count < Self.mostEvents { record.events.append(event) } else { record.droppedEvents += 1 }
        }
    }

    /// Links it to another span; of many links, the first are kept.
    public func addLink(_ link: SpanLink) {
        change { record in
            if record.links.count < Self.mostEvents { record.links.append(link) } else { record.droppedLinks += 1 }
        }
    }

    /// Adds the error as an event, by its type: what it says may be secret.
    public func recordError<Instant: TracerInstant>(
        _ error: any Error,
        attributes: SpanAttributes,
        at instant: @autoclosure () -> Instant
    ) {
        var attributes = attributes
        attributes["exception.type"] = "\(type(of: error))"
        addEvent(SpanEvent(name: "exception", at: instant(), attributes: attributes))
    }

    /// Ends it, once: it is queued to be sent, if it is sampled.
    public func end<Instant: TracerInstant>(at instant: @autoclosure () -> Instant) {
        guard let queue else { return }
        let now = instant().nanosecondsSinceEpoch
        let isFirst = state.withLock { record in
            guard record.end == nil else { return false }
            record.end = max(now, start)
            return true
        }
        if isFirst { queue.add(self) }
    }

    /// Once it has ended, nothing changes any more.
    private func change(_ body: (inout Record) -> Void) {
        guard queue != nil else { return }
        state.withLock { record in
            if record.end == nil { body(&record) }
        }
    }
}
