import Breakwater
import Tracing

/// An `ExportTraceServiceRequest` of OTLP in its JSON form: names in lower camel case, ids in hexadecimal, 64-bit
/// integers as strings.
struct OTLPRequest: Encodable {
    struct ResourceSpans: Encodable {
        var resource: Resource
        var scopeSpans: [ScopeSpans]
    }

    struct Resource: Encodable {
        var attributes: OTLPAttributes
    }

    struct ScopeSpans: Encodable {
        var scope = Scope()
        var spans: [OTLPSpanBody]
    }

    struct Scope: Encodable {
        var name = "breakwater"
        var version = breakwaterVersion
    }

    var resourceSpans: [ResourceSpans]

    init(_ spans: [OTLPSpan], resource: OTLPAttributes) {
        resourceSpans = [
            ResourceSpans(
                resource: Resource(attributes: resource),
                scopeSpans: [ScopeSpans(spans: spans.map(OTLPSpanBody.init))]
            )
        ]
    }
}

struct OTLPSpanBody: Encodable {
    struct Event: Encodable {
        var timeUnixNano: String
        var name: String
        var attributes: OTLPAttributes
    }

    struct Link: Encodable {
        var traceId: String
        var spanId: String
        var traceState: String?
        var attributes: OTLPAttributes
    }

    struct Status: Encodable {
        var code: Int
        var message: String?
    }

    var traceId: String
    var spanId: String
    var traceState: String?
    var parentSpanId: String?
    /// The lowest byte has the W3C's flags. The next byte says that it is unknown whether the parent is remote.
    var flags = 1
    var name: String
    var kind: Int
    var startTimeUnixNano: String
    var endTimeUnixNano: String
    var attributes: OTLPAttributes
    var events: [Event]
    var droppedEventsCount: Int
    var links: [Link]
    var droppedLinksCount: Int
    var status: Status

    init(_ span: OTLPSpan) {
        let record = span.record
        traceId = span.identity.trace
        spanId = span.identity.span
        traceState = span.identity.state
        parentSpanId = span.parent
        name = record.name
        kind = span.kind.otlp
        startTimeUnixNano = "\(span.start)"
        endTimeUnixNano = "\(record.end ?? span.start)"
        attributes = OTLPAttributes(record.attributes)
        events = record.events.map {
            Event(timeUnixNano: "\($0.nanosecondsSinceEpoch)", name: $0.name, attributes: OTLPAttributes($0.attributes))
        }
        droppedEventsCount = record.droppedEvents
        links = record.links.compactMap { link in
            link.context.spanIdentity.map {
                Link(
                    traceId: $0.trace,
                    spanId: $0.span,
                    traceState: $0.state,
                    attributes: OTLPAttributes(link.attributes)
                )
            }
        }
        droppedLinksCount = record.droppedLinks
        status =
            switch record.status?.code {
            case nil: Status(code: 0)
            case .ok: Status(code: 1)
            case .error: Status(code: 2, message: record.status?.message)
            }
    }
}

extension SpanKind {
    fileprivate var otlp: Int {
        switch self {
        case .internal: 1
        case .server: 2
        case .client: 3
        case .producer: 4
        case .consumer: 5
        }
    }
}

/// Attributes in OTLP's form: a list of keys with typed values.
struct OTLPAttributes: Encodable {
    private struct Pair: Encodable {
        var key: String
        var value: Value
    }

    private enum Value: Encodable {
        case text(String), whole(Int64), number(Double), flag(Bool), list([Value])

        private enum Key: String, CodingKey {
            case stringValue, intValue, doubleValue, boolValue, arrayValue, values
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: Key.self)
            switch self {
            case .text(let text): try container.encode(text, forKey: .stringValue)
            case .whole(let number): try container.encode("\(number)", forKey: .intValue)
            case .number(let number) where number.isFinite: try container.encode(number, forKey: .doubleValue)
            case .number(let number): try container.encode("\(number)", forKey: .stringValue)
            case .flag(let flag): try container.encode(flag, forKey: .boolValue)
            case .list(let values):
                var list = container.nestedContainer(keyedBy: Key.self, forKey: .arrayValue)
                try list.encode(values, forKey: .values)
            }
        }
    }

    private var pairs: [Pair]

    init(_ texts: [String: String]) {
        pairs = texts.sorted { $0.key < $1.key }.map { Pair(key: $0.key, value: .text($0.value)) }
    }

    init(_ attributes: SpanAttributes) {
        var pairs: [Pair] = []
        attributes.forEach { key, attribute in
            if let value = Self.value(attribute) { pairs.append(Pair(key: key, value: value)) }
        }
        self.pairs = pairs
    }

    func encode(to encoder: any Encoder) throws { try pairs.encode(to: encoder) }

    private static func value(_ attribute: SpanAttribute) -> Value? {
        switch attribute {
        case .int32(let number): .whole(Int64(number))
        case .int64(let number): .whole(number)
        case .double(let number): .number(number)
        case .bool(let flag): .flag(flag)
        case .string(let text): .text(text)
        case .stringConvertible(let value): .text(value.description)
        case .int32Array(let numbers): .list(numbers.map { .whole(Int64($0)) })
        case .int64Array(let numbers): .list(numbers.map { .whole($0) })
        case .doubleArray(let numbers): .list(numbers.map { .number($0) })
        case .boolArray(let flags): .list(flags.map { .flag($0) })
        case .stringArray(let texts): .list(texts.map { .text($0) })
        case .stringConvertibleArray(let values): .list(values.map { .text($0.description) })
        default: nil
        }
    }
}
