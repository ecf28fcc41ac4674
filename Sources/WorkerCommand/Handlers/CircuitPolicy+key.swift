import Breakwater

extension ValueRule where Value == CircuitPolicy.Key {
    /// A path into the payload, which begins with `$`, or the name of a circuit that several handlers share.
    static var circuitKey: Self {
        let name = ValueRule<String>.text("a name", bytes: 1...200)
        return Self(
            allowed:
                "a path into the payload, such as $.customer.host, or a name of 1 to 200 bytes that handlers share",
            parse: { text in
                if text.hasPrefix("$") { return .path(try JSONPath(text: text).segments) }
                if text.hasPrefix(".") {
                    throw ValueRefusal(
                        "'\(text)' is neither a path nor a name; write $\(text) for what stands there in the payload"
                    )
                }
                return try name.parse(text).map { .shared($0) }
            },
            text: { key in
                switch key {
                case .path(let segments): JSONPath(segments: segments).text
                case .shared(let name): name
                }
            }
        )
    }
}

/// A path to one value in a JSON document: `$.customer["home page"].hosts[0]`.
///
/// A path names exactly one value. Wildcards, slices and filters are refused.
struct JSONPath: Equatable {
    /// The names of members and the indexes of elements, the outermost first.
    var segments: [String]

    init(segments: [String]) {
        self.segments = segments
    }

    /// Reads `$`, followed by at least one of `.name`, `[0]` and `["any name"]`.
    ///
    /// - Throws: ``ValueRefusal`` with the part that is invalid.
    init(text: String) throws {
        segments = []
        var rest = text.dropFirst()
        while !rest.isEmpty {
            if let match = rest.prefixMatch(of: /\.([\p{L}\p{N}_-]+)|\[([0-9]{1,9})\]/) {
                segments.append(String(match.1 ?? match.2 ?? ""))
                rest = rest[match.range.upperBound...]
            } else if let match = rest.prefixMatch(of: /\["((?:[^"\\]|\\["\\])+)"\]|\['((?:[^'\\]|\\['\\])+)'\]/) {
                segments.append(String(match.1 ?? match.2 ?? "").replacing(/\\(.)/) { $0.1 })
                rest = rest[match.range.upperBound...]
            } else {
                break
            }
        }
        guard rest.isEmpty, !segments.isEmpty else {
            let place = rest.isEmpty ? "it names nothing in the payload" : "'\(rest)' is not understood"
            throw ValueRefusal(
                "'\(text)' is not the path of one value: \(place); "
                    + "write names and numbers, such as $.customer.host, $.hosts[0] or $[\"home page\"]"
            )
        }
    }

    /// The text that is read as this path.
    var text: String {
        "$"
            + segments.map { segment in
                if segment.wholeMatch(of: /[0-9]{1,9}/) != nil { return "[\(segment)]" }
                if segment.wholeMatch(of: /[\p{L}\p{N}_-]+/) != nil { return ".\(segment)" }
                let quoted = segment.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
                return "[\"\(quoted)\"]"
            }.joined()
    }
}
