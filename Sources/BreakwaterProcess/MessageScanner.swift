/// Walks over the JSON of one line, strictly by RFC 8259, without building values.
///
/// Most lines are results of a few dozen bytes, and there can be tens of thousands a second. So a value is only skipped
/// and checked, and its range is kept.
package struct MessageScanner {
    /// The greatest depth of lists and objects.
    static let maximumDepth = 512

    private let bytes: UnsafeRawBufferPointer
    private(set) var position: Int
    private let end: Int

    /// Scans a range of the bytes; all of them unless one is given.
    package init(_ bytes: UnsafeRawBufferPointer, in range: Range<Int>? = nil) {
        self.bytes = bytes
        position = range?.lowerBound ?? 0
        end = range?.upperBound ?? bytes.count
    }

    /// Calls the body for each member of the object that the range is, with the range of the name between its quotes
    /// and the range of the value.
    ///
    /// - Returns: Whether the range is one JSON object and nothing else.
    package mutating func members(_ body: (Range<Int>, Range<Int>) -> Void) -> Bool {
        skipSpace()
        guard take(UInt8(ascii: "{")) else { return false }
        skipSpace()
        if !take(UInt8(ascii: "}")) {
            repeat {
                skipSpace()
                let name = position
                guard string() else { return false }
                let nameEnd = position
                skipSpace()
                guard take(UInt8(ascii: ":")) else { return false }
                skipSpace()
                let value = position
                guard self.value(depth: 1) else { return false }
                body(name + 1..<nameEnd - 1, value..<position)
                skipSpace()
            } while take(UInt8(ascii: ","))
            guard take(UInt8(ascii: "}")) else { return false }
        }
        skipSpace()
        return position == end
    }

    /// Calls the body for the range of each element of the list that the range is.
    ///
    /// - Returns: Whether the range is one JSON list and nothing else.
    package mutating func elements(_ body: (Range<Int>) -> Void) -> Bool {
        guard take(UInt8(ascii: "[")) else { return false }
        skipSpace()
        if take(UInt8(ascii: "]")) { return position == end }
        repeat {
            skipSpace()
            let start = position
            guard value(depth: 1) else { return false }
            body(start..<position)
            skipSpace()
        } while take(UInt8(ascii: ","))
        return take(UInt8(ascii: "]")) && position == end
    }

    private var next: UInt8? { position < end ? bytes[position] : nil }

    private mutating func take(_ byte: UInt8) -> Bool {
        guard position < end, bytes[position] == byte else { return false }
        position += 1
        return true
    }

    private mutating func skipSpace() {
        while position < end {
            switch bytes[position] {
            case 0x20, 0x09, 0x0A, 0x0D: position += 1
            default: return
            }
        }
    }

    private mutating func value(depth: Int) -> Bool {
        guard depth < Self.maximumDepth else { return false }
        switch next {
        case UInt8(ascii: "\""): return string()
        case UInt8(ascii: "{"): return object(depth: depth)
        case UInt8(ascii: "["): return list(depth: depth)
        case UInt8(ascii: "t"): return word("true")
        case UInt8(ascii: "f"): return word("false")
        case UInt8(ascii: "n"): return word("null")
        default: return number()
        }
    }

    private mutating func object(depth: Int) -> Bool {
        position += 1
        skipSpace()
        if take(UInt8(ascii: "}")) { return true }
        repeat {
            skipSpace()
            guard string() else { return false }
            skipSpace()
            guard take(UInt8(ascii: ":")) else { return false }
            skipSpace()
            guard value(depth: depth + 1) else { return false }
            skipSpace()
        } while take(UInt8(ascii: ","))
        return take(UInt8(ascii: "}"))
    }

    private mutating func list(depth: Int) -> Bool {
        position += 1
        skipSpace()
        if take(UInt8(ascii: "]")) { return true }
        repeat {
            skipSpace()
            guard value(depth: depth + 1) else { return false }
            skipSpace()
        } while take(UInt8(ascii: ","))
        return take(UInt8(ascii: "]"))
    }

    private mutating func word(_ word: StaticString) -> Bool {
        let count = word.utf8CodeUnitCount
        guard position + count <= end else { return false }
        for index in 0..<count where bytes[position + index] != word.utf8Start[index] { return false }
        position += count
        return true
    }

    private mutating func string() -> Bool {
        guard take(UInt8(ascii: "\"")) else { return false }
        while position < end {
            let byte = bytes[position]
            position += 1
            if byte == UInt8(ascii: "\"") { return true }
            if byte < 0x20 { return false }
            guard byte == UInt8(ascii: "\\") else { continue }
            guard position < end else { return false }
            let escaped = bytes[position]
            position += 1
            guard escaped == UInt8(ascii: "u") else {
                guard "\"\\/bfnrt".utf8.contains(escaped) else { return false }
                continue
            }
            guard position + 4 <= end, bytes[position..<position + 4].allSatisfy(\.isHexDigit) else { return false }
            position += 4
        }
        return false
    }

    private mutating func number() -> Bool {
        _ = take(UInt8(ascii: "-"))
        if !take(UInt8(ascii: "0")), !digits() { return false }
        if take(UInt8(ascii: ".")), !digits() { return false }
        if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
            if !take(UInt8(ascii: "-")) { _ = take(UInt8(ascii: "+")) }
            if !digits() { return false }
        }
        return true
    }

    private mutating func digits() -> Bool {
        let start = position
        while position < end, bytes[position].isDigit { position += 1 }
        return position > start
    }
}

extension UInt8 {
    fileprivate var isDigit: Bool { self >= 0x30 && self <= 0x39 }
    fileprivate var isHexDigit: Bool { isDigit || (self | 0x20 >= 0x61 && self | 0x20 <= 0x66) }
}

extension UnsafeRawBufferPointer {
    /// The text of a JSON string; nil if the range is another value. Half a surrogate pair becomes U+FFFD.
    package func text(_ range: Range<Int>) -> String? {
        guard range.count >= 2, self[range.lowerBound] == UInt8(ascii: "\"") else { return nil }
        let inside = self[range.lowerBound + 1..<range.upperBound - 1]
        guard inside.contains(UInt8(ascii: "\\")) else { return String(decoding: inside, as: UTF8.self) }
        var units: [UInt16] = []
        var plain = inside.startIndex
        var index = inside.startIndex
        func take(_ end: Int) { units += String(decoding: self[plain..<end], as: UTF8.self).utf16 }
        while index < inside.endIndex {
            guard self[index] == UInt8(ascii: "\\") else {
                index += 1
                continue
            }
            take(index)
            let escaped = self[index + 1]
            index += 2
            switch escaped {
            case UInt8(ascii: "b"): units.append(8)
            case UInt8(ascii: "f"): units.append(12)
            case UInt8(ascii: "n"): units.append(10)
            case UInt8(ascii: "r"): units.append(13)
            case UInt8(ascii: "t"): units.append(9)
            case UInt8(ascii: "u"):
                let digits = String(decoding: self[index..<index + 4], as: UTF8.self)
                units.append(UInt16(digits, radix: 16) ?? 0xFFFD)
                index += 4
            default: units.append(UInt16(escaped))
            }
            plain = index
        }
        take(inside.endIndex)
        return String(decoding: units, as: UTF16.self)
    }

    /// The number; nil if the range is another value.
    package func number(_ range: Range<Int>) -> Double? {
        guard let first = self[range].first, first == UInt8(ascii: "-") || first.isDigit else { return nil }
        return Double(String(decoding: self[range], as: UTF8.self))
    }

    /// The whole number that is not negative; nil if the range is another value, or too large.
    package func whole(_ range: Range<Int>) -> UInt64? {
        guard !range.isEmpty, range.count <= 19 else { return nil }
        var value: UInt64 = 0
        for byte in self[range] {
            guard byte.isDigit else { return nil }
            value = value * 10 + UInt64(byte - 0x30)
        }
        return value
    }

    /// Whether the bytes of the range are those of the word.
    package func isWord(_ word: StaticString, _ range: Range<Int>) -> Bool {
        guard range.count == word.utf8CodeUnitCount else { return false }
        for index in 0..<range.count where self[range.lowerBound + index] != word.utf8Start[index] { return false }
        return true
    }

    /// Whether the range is null.
    package func isNull(_ range: Range<Int>) -> Bool { isWord("null", range) }
}
