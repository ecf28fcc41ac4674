import Breakwater

/// The headers of a handler's requests: the configured ones and those of the job.
struct HTTPHeaders: Sendable {
    let configured: [String: String]

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
        self.configured = configured
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
        var fields = context.fields(of: job).compactMap { field, text in
            field.header.map { ($0, text.percentEncodedForHeader) }
        }
        fields += signature
        let names = Set(configured.keys.map { $0.lowercased() })
        if let contentType, !names.contains("content-type") { fields.append(("Content-Type", contentType)) }
        if !names.contains("user-agent") { fields.append(("User-Agent", "breakwater")) }
        fields += configured.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
        // A line with a semicolon after the name makes curl send an empty value. A line with nothing after the colon
        // removes the header. This is done with "Expect", so that curl does not wait for a 100 before it sends the
        // body.
        return fields.map { $1.isEmpty ? "\($0);" : "\($0): \($1)" } + ["Expect:"]
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
        utf8.reduce(into: "") { text, byte in
            if (0x20..<0x7F).contains(byte), byte != UInt8(ascii: "%") {
                text.unicodeScalars.append(Unicode.Scalar(byte))
            } else {
                text += "%" + (byte < 0x10 ? "0" : "") + String(byte, radix: 16, uppercase: true)
            }
        }
    }
}
