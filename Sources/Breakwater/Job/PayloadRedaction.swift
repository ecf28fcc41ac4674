/// Removes the values of a job's payload from a message before it is logged, because the errors of servers and programs
/// may echo their input.
///
/// It searches for strings and numbers of at least 8 bytes, both as plain text and as JSON text. A shorter value is
/// more likely a word such as "default" than a secret.
struct PayloadRedaction {
    /// The largest payload that is searched. Messages about a job with a larger one are withheld completely.
    static let maximumPayloadBytes = 64 << 10
    /// The most values. Messages about a job with more values are withheld too.
    static let maximumValues = 500
    private static let minimumValueBytes = 8
    static let mark = "[redacted]"

    /// The values to remove; nil if there are too many. The longest come first, because one may contain another.
    private let values: [String]?

    /// - Parameter payload: One JSON value as text.
    init(payload: String) {
        values = payload.utf8.count <= Self.maximumPayloadBytes ? Self.values(in: Array(payload.utf8)) : nil
    }

    /// The message without the payload's values.
    func applied(to message: String) -> String {
        guard let values else { return "(withheld: the payload is too large to take its values out of the message)" }
        return values.reduce(message) { text, value in
            text.utf8.count < value.utf8.count ? text : text.replacing(value, with: Self.mark)
        }
    }

    /// The strings and numbers of a JSON document, except the names of members. The document is known to be valid,
    /// because the database stored it.
    private static func values(in json: [UInt8]) -> [String]? {
        var found: Set<String> = []
        var position = 0
        while position < json.count {
            let start = position
            if json[position] == UInt8(ascii: "\"") {
                position = endOfString(in: json, from: position)
                var next = position
                while next < json.count, json[next] == 0x20 { next += 1 }
                // This string is the name of a member.
                if next < json.count, json[next] == UInt8(ascii: ":") { continue }
                let raw = json[start..<position].dropFirst().dropLast()
                guard raw.count >= minimumValueBytes else { continue }
                found.insert(String(decoding: raw, as: UTF8.self))
                if raw.contains(UInt8(ascii: "\\")) { found.insert(unescaped(raw)) }
            } else {
                while position < json.count, json[position].isOfANumber { position += 1 }
                if position - start >= minimumValueBytes {
                    found.insert(String(decoding: json[start..<position], as: UTF8.self))
                }
                position = max(position, start + 1)
            }
            if found.count > maximumValues { return nil }
        }
        return found.filter { $0.utf8.count >= minimumValueBytes }.sorted { $0.utf8.count > $1.utf8.count }
    }

    private static func endOfString(in json: [UInt8], from start: Int) -> Int {
        var position = start + 1
        while position < json.count, json[position] != UInt8(ascii: "\"") {
            position += json[position] == UInt8(ascii: "\\") ? 2 : 1
        }
        return min(position + 1, json.count)
    }

    /// The text of a JSON string. Escapes of code points are kept, because `jsonb` returns them only for control
    /// characters.
    private static func unescaped(_ raw: ArraySlice<UInt8>) -> String {
        var bytes: [UInt8] = []
        var isEscape = false
        for byte in raw {
            guard isEscape || byte == UInt8(ascii: "\\") else {
                bytes.append(byte)
                continue
            }
            if isEscape {
                switch byte {
                case UInt8(ascii: "n"): bytes.append(0x0A)
                case UInt8(ascii: "r"): bytes.append(0x0D)
                case UInt8(ascii: "t"): bytes.append(0x09)
                case UInt8(ascii: "u"): bytes += [UInt8(ascii: "\\"), byte]
                default: bytes.append(byte)
                }
            }
            isEscape.toggle()
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

extension UInt8 {
    fileprivate var isOfANumber: Bool { "0123456789+-.eE".utf8.contains(self) }
}
