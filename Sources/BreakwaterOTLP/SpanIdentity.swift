import Tracing

/// The identity of a span: its trace and its span id, as the W3C's `traceparent` and `tracestate` pass them between
/// processes.
struct SpanIdentity: Sendable, Hashable {
    /// The trace's id: 32 hexadecimal digits, not all zero.
    var trace: String
    /// The span's id: 16 hexadecimal digits, not all zero.
    var span: String
    /// Whether the span is recorded and sent.
    var isSampled: Bool
    /// The `tracestate` of tracing systems, which is passed on unchanged.
    var state: String?

    init(trace: String, span: String, isSampled: Bool, state: String? = nil) {
        self.trace = trace
        self.span = span
        self.isSampled = isSampled
        self.state = state
    }

    /// Reads a `traceparent` of version 00, or the common part of a later version.
    init?(traceparent: String, tracestate: String?) {
        let parts = traceparent.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count >= 4, parts[0].isHex(2), parts[0] != "ff", parts[0] != "00" || parts.count == 4,
            parts[1].isHex(32), parts[1].contains(where: { $0 != "0" }),
            parts[2].isHex(16), parts[2].contains(where: { $0 != "0" }),
            parts[3].isHex(2), let flags = UInt8(parts[3], radix: 16)
        else { return nil }
        self.init(trace: String(parts[1]), span: String(parts[2]), isSampled: flags & 1 == 1, state: tracestate)
    }

    /// The identity of a new span, in its parent's trace or in a new one.
    static func new(in parent: SpanIdentity?, isSampled: (_ trace: String) -> Bool) -> SpanIdentity {
        let trace = parent?.trace ?? hex(of: 2)
        return SpanIdentity(trace: trace, span: hex(of: 1), isSampled: isSampled(trace), state: parent?.state)
    }

    var traceparent: String { "00-\(trace)-\(span)-\(isSampled ? "01" : "00")" }

    /// Random digits, sixteen for each word, never all zero.
    private static func hex(of words: Int) -> String {
        (0..<words).map { _ in
            let digits = String(UInt64.random(in: 1...UInt64.max), radix: 16)
            return String(repeating: "0", count: 16 - digits.count) + digits
        }
        .joined()
    }
}

extension Substring {
    /// Whether the text has `count` hexadecimal digits in lower case, as the W3C requires.
    fileprivate func isHex(_ count: Int) -> Bool {
        utf8.count == count
            && utf8.allSatisfy {
                (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
                    || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains($0)
            }
    }
}

/// The key of the span's identity in a context.
private enum SpanIdentityKey: InstrumentationContextKey {
    typealias Value = SpanIdentity

    static var nameOverride: String? { "breakwater-otlp-span" }
}

extension InstrumentationContext {
    /// The identity of the span that this context is inside, if any.
    var spanIdentity: SpanIdentity? {
        get { self[SpanIdentityKey.self] }
        set { self[SpanIdentityKey.self] = newValue }
    }
}
