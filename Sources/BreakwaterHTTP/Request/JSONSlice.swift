import Foundation

/// One value within a JSON text. It is found without decoding the rest of the text.
struct JSONSlice: Sendable {
    /// The value as it is written in the text.
    let bytes: ArraySlice<UInt8>

    /// Finds the value at a path, as Postgres's `#>` does: names of members and indexes of elements.
    ///
    /// - Parameters:
    ///   - path: The path, the outermost first. An empty path is the whole text.
    ///   - json: A valid JSON text. An invalid one has no value, or an arbitrary one.
    init?(_ path: [String], in json: [UInt8]) {
        var scanner = Scanner(json)
        for segment in path {
            guard scanner.enter(segment) else { return nil }
        }
        scanner.skipSpace()
        let start = scanner.position
        guard scanner.skipValue() else { return nil }
        bytes = json[start..<scanner.position]
    }

    /// The value as text, as Postgres's `#>>` writes it: a string without its quotes, any other value as JSON. Nil for
    /// null.
    var text: String? {
        if isString { return Self.decoded(bytes) }
        let text = String(decoding: bytes, as: UTF8.self)
        return text == "null" ? nil : text
    }

    var isString: Bool { bytes.first == UInt8(ascii: "\"") }

    /// Whether the value is an object or an array.
    var isContainer: Bool { bytes.first == UInt8(ascii: "{") || bytes.first == UInt8(ascii: "[") }

    /// The members of an object, in order; nil if the value is something else.
    var members: [(name: String, value: JSONSlice)]? {
        var scanner = Scanner(Array(bytes))
        guard scanner.next == UInt8(ascii: "{") else { return nil }
        var members: [(String, JSONSlice)] = []
        while let name = scanner.nextMember() {
            let start = scanner.position
            guard scanner.skipValue() else { return nil }
            members.append((name, JSONSlice(bytes: scanner.bytes[start..<scanner.position])))
        }
        return members
    }

    private init(bytes: ArraySlice<UInt8>) { self.bytes = bytes }

    /// The content of a JSON string with its quotes.
    private static func decoded(_ bytes: ArraySlice<UInt8>) -> String? {
        if !bytes.contains(UInt8(ascii: "\\")) {
            return bytes.count < 2 ? nil : String(decoding: bytes.dropFirst().dropLast(), as: UTF8.self)
        }
        return try? JSONDecoder().decode(String.self, from: Data(bytes))
    }

    /// A position in a JSON text.
    private struct Scanner {
        let bytes: [UInt8]
        var position = 0

        init(_ bytes: [UInt8]) { self.bytes = bytes }

        var next: UInt8? { position < bytes.count ? bytes[position] : nil }

        mutating func skipSpace() {
            while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { position += 1 }
        }

        /// Moves to the value of a member or an element of the container at this position.
        mutating func enter(_ segment: String) -> Bool {
            skipSpace()
            switch next {
            case UInt8(ascii: "{"):
                while let name = nextMember() {
                    if name == segment { return true }
                    guard skipValue() else { return false }
                }
                return false
            case UInt8(ascii: "["):
                guard let index = Int(segment) else { return false }
                // A negative index counts from the end.
                var target = index
                if index < 0 {
                    var ahead = self
                    var count = 0
                    while ahead.nextElement() {
                        guard ahead.skipValue() else { return false }
                        count += 1
                    }
                    target += count
                }
                guard target >= 0 else { return false }
                for _ in 0..<target { guard nextElement(), skipValue() else { return false } }
                return nextElement()
            default:
                return false
            }
        }

        /// Moves behind the opening bracket or a comma, and then to the value of the next member. Returns its name; nil
        /// at the end of the object.
        mutating func nextMember() -> String? {
            guard nextElement() else { return nil }
            let start = position
            guard next == UInt8(ascii: "\""), skipString() else { return nil }
            let name = JSONSlice.decoded(bytes[start..<position])
            skipSpace()
            guard next == UInt8(ascii: ":") else { return nil }
            position += 1
            skipSpace()
            return name
        }

        /// Moves behind the opening bracket or a comma to the next element. Returns false at the end of the container.
        mutating func nextElement() -> Bool {
            skipSpace()
            guard next == UInt8(ascii: "{") || next == UInt8(ascii: "[") || next == UInt8(ascii: ",") else {
                return false
            }
            position += 1
            skipSpace()
            return next != UInt8(ascii: "}") && next != UInt8(ascii: "]")
        }

        /// Moves behind the value at this position.
        mutating func skipValue() -> Bool {
            skipSpace()
            var depth = 0
            repeat {
                switch next {
                case UInt8(ascii: "\""):
                    guard skipString() else { return false }
                case UInt8(ascii: "{"), UInt8(ascii: "["):
                    depth += 1
                    position += 1
                case UInt8(ascii: "}"), UInt8(ascii: "]"):
                    depth -= 1
                    position += 1
                case UInt8(ascii: ","), UInt8(ascii: ":"), 0x20, 0x0A, 0x0D, 0x09:
                    guard depth > 0 else { return false }
                    position += 1
                case .some:
                    skipWord()
                case nil:
                    return false
                }
            } while depth > 0
            return depth == 0
        }

        private mutating func skipString() -> Bool {
            position += 1
            while let byte = next {
                position += byte == UInt8(ascii: "\\") ? 2 : 1
                if byte == UInt8(ascii: "\"") { return true }
            }
            return false
        }

        /// Moves behind a number or a word.
        private mutating func skipWord() {
            while let byte = next, !",:{}[]\" \n\r\t".utf8.contains(byte) { position += 1 }
        }
    }
}
