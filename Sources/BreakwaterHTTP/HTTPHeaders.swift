import Breakwater

/// The headers of a handler's requests: the configured ones and those of the job.
struct HTTPHeaders: Sendable {
    /// The lines of the configured headers in curl's format, by name.
    let configuredLines: [String]
    /// The lines that are the same for every request.
    private let fixedLines: [String]
    /// Whether the configured headers say what type the body has.
    private let hasContentType: Bool

    /// The names that the request itself, the job or the signature sets, in lower case.
    private static let reserved: Set<String> = [
        "connection", "content-length", "expect", "host", "idempotency-key", "te", "traceparent", "trailer",
        "tracestate", "transfer-encoding", "upgrade", "webhook-id", "webhook-signature", "webhook-timestamp",
    ]

    /// - Throws: ``HTTPPluginError`` for a name or a value that cannot be sent, or for a name that must not be
    ///   configured.
    init(_ configured: [String: String]) throws {
        var seen: Set<String> = []
        for (name, value) in configured {
            guard !name.isEmpty, name.utf8.allSatisfy(\.isTokenCharacter) else {
                throw HTTPPluginError(
                    .invalidHeader,
                    "\(name.debugDescription) cannot be a header's name: letters, digits and !#$%&'*+-.^_`|~ are allowed"
                )
            }
            let lowercased = name.lowercased()
            guard !Self.reserved.contains(lowercased), !lowercased.hasPrefix("breakwater-") else {
                throw HTTPPluginError(.invalidHeader, "the header '\(name)' is set by the worker itself; leave it out")
            }
            guard seen.insert(lowercased).inserted else {
                throw HTTPPluginError(.invalidHeader, "the header '\(name)' is given twice, in different letter case")
            }
            guard value.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F || $0 == 0x09 }) else {
                throw HTTPPluginError(
                    .invalidHeader,
                    "the value of the header '\(name)' contains a line break or another control character"
                )
            }
        }
        hasContentType = seen.contains("content-type")
        configuredLines = configured.sorted { $0.key < $1.key }.map { Self.line($0.key, $0.value) }
        let agent = seen.contains("user-agent") ? [] : ["User-Agent: breakwater"]
        // A line with nothing after the colon removes the header, so that curl does not wait for a 100 before it sends
        // the body.
        fixedLines = configuredLines + agent + ["Expect:"]
    }

    /// A line in curl's format. A semicolon after the name makes curl send an empty value.
    private static func line(_ name: String, _ value: String) -> String {
        value.isEmpty ? "\(name);" : "\(name): \(value)"
    }

    /// The headers of one request in curl's format.
    ///
    /// - Parameters:
    ///   - job: The job that the request is for.
    ///   - context: The context with the run's deadline.
    ///   - signature: The headers of the signature, if the request is signed.
    ///   - contentType: The type of the body; nil if the request has none.
    func lines(
        for job: Job,
        context: JobContext,
        signature: [(String, String)],
        contentType: String?
    ) -> [String] {
        var lines = fixedLines
        for (field, text) in context.fields(of: job) {
            guard let name = field.header else { continue }
            lines.append(Self.line(name, text.percentEncodedForHeader))
        }
        for (name, value) in signature { lines.append(Self.line(name, value)) }
        if let contentType, !hasContentType { lines.append(Self.line("Content-Type", contentType)) }
        return lines
    }
}

extension JobField {
    /// The name of the header; nil if there is none.
    fileprivate var header: String? {
        switch self {
        case .id: "Breakwater-Job-Id"
        case .kind: "Breakwater-Kind"
        case .queue: "Breakwater-Queue"
        case .attempt: "Breakwater-Attempt"
        case .maxAttempts: "Breakwater-Max-Attempts"
        case .deadline: "Breakwater-Deadline"
        case .idempotencyKey: "Idempotency-Key"
        case .traceparent: "traceparent"
        case .tracestate: "tracestate"
        // It may have 64 KiB, which servers refuse.
        case .checkpoint: nil
        }
    }
}

extension UInt8 {
    /// Whether a field of a job has this byte in a header as it is.
    fileprivate var isPlainInHeader: Bool { (0x20..<0x7F).contains(self) && self != UInt8(ascii: "%") }

    /// Whether RFC 9110 allows this byte in a header's name.
    fileprivate var isTokenCharacter: Bool {
        switch self {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
            UInt8(ascii: "A")...UInt8(ascii: "Z"):
            true
        default: "!#$%&'*+-.^_`|~".utf8.contains(self)
        }
    }
}

extension String {
    /// The text with control characters, `%` and non-ASCII bytes written as `%XX`.
    fileprivate var percentEncodedForHeader: String {
        if utf8.allSatisfy(\.isPlainInHeader) { return self }
        return utf8.reduce(into: "") { text, byte in
            if byte.isPlainInHeader {
                text.unicodeScalars.append(Unicode.Scalar(byte))
            } else {
                text += "%" + (byte < 0x10 ? "0" : "") + String(byte, radix: 16, uppercase: true)
            }
        }
    }
}
