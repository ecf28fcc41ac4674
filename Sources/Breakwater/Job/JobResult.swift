/// Turns the answer of a program or server into JSON text that Postgres can store as `jsonb`.
///
/// An answer that is one JSON value is kept as it is, except for parts that `jsonb` refuses: the escape `\u0000` is
/// dropped, and half a surrogate pair becomes U+FFFD. Any other answer becomes a JSON string of its text, with invalid
/// UTF-8 replaced and NUL dropped. An answer that is only white space is no result.
package enum JobResult {
    /// The answer as one JSON value.
    ///
    /// - Parameters:
    ///   - bytes: The answer.
    ///   - isCut: Whether the answer was cut off, perhaps within a character.
    /// - Returns: JSON text; nil for an answer that is only white space.
    package static func json(from bytes: [UInt8], isCut: Bool = false) -> String? {
        if bytes.allSatisfy(\.isJSONWhitespace) { return nil }
        if !isCut, String(validating: bytes, as: UTF8.self) != nil {
            var scanner = JSONScanner(bytes)
            if let accepted = scanner.scan() { return String(decoding: accepted, as: UTF8.self) }
        }
        return quoted(text(from: bytes, isCut: isCut))
    }

    /// The one JSON value in a text, with the parts changed that Postgres refuses; nil if it is no value that can be
    /// stored.
    package static func value(in text: String) -> String? {
        var scanner = JSONScanner(Array(text.utf8))
        return scanner.scan().map { String(decoding: $0, as: UTF8.self) }
    }

    /// Whether the text is one JSON value that Postgres can store as `jsonb` unchanged.
    package static func isStorable(_ text: String) -> Bool {
        let trimmed = text.utf8.drop(while: \.isJSONWhitespace).reversed().drop(while: \.isJSONWhitespace).reversed()
        var scanner = JSONScanner(Array(trimmed))
        return scanner.scan()?.elementsEqual(trimmed) ?? false
    }

    /// The bytes as text that Postgres can store. Invalid UTF-8 becomes U+FFFD, and NUL is dropped.
    ///
    /// - Parameters:
    ///   - bytes: The answer.
    ///   - isCut: Whether the answer was cut off. An incomplete character at its end is then dropped.
    package static func text(from bytes: some BidirectionalCollection<UInt8>, isCut: Bool = false) -> String {
        var kept = Array(bytes)
        if isCut { kept.removeLast(kept.incompleteCharacterLength) }
        kept.removeAll { $0 == 0 }
        return String(decoding: kept, as: UTF8.self)
    }

    /// The text as a JSON string.
    package static func quoted(_ text: String) -> String {
        var json: [UInt8] = [UInt8(ascii: "\"")]
        json.reserveCapacity(text.utf8.count + 2)
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"): json += [UInt8(ascii: "\\"), byte]
            case UInt8(ascii: "\n"): json += Array("\\n".utf8)
            case UInt8(ascii: "\r"): json += Array("\\r".utf8)
            case UInt8(ascii: "\t"): json += Array("\\t".utf8)
            case 0..<0x20: json += Array("\\u00\(byte < 0x10 ? "0" : "")\(String(byte, radix: 16))".utf8)
            default: json.append(byte)
            }
        }
        json.append(UInt8(ascii: "\""))
        return String(decoding: json, as: UTF8.self)
    }
}

extension UInt8 {
    var isJSONWhitespace: Bool { self == 0x20 || self == 0x0A || self == 0x0D || self == 0x09 }
    fileprivate var isDigit: Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self) }
}

extension [UInt8] {
    /// How many bytes at the end are the beginning of an incomplete UTF-8 character.
    fileprivate var incompleteCharacterLength: Int {
        for length in 1...3 where length <= count {
            switch self[count - length] {
            case 0x80..<0xC0: continue
            case 0xC0..<0xE0: return length < 2 ? length : 0
            case 0xE0..<0xF0: return length < 3 ? length : 0
            case 0xF0...: return length
            default: return 0
            }
        }
        return 0
    }
}

/// Parses one JSON value strictly by RFC 8259, and copies the parts that `jsonb` accepts.
///
/// Foundation's parser could validate, but it neither repairs `\u0000` and lone surrogates nor refuses the numbers and
/// depths that `jsonb` refuses.
private struct JSONScanner {
    /// The greatest depth. Deeper values could exceed Postgres's `max_stack_depth`.
    private static let maximumDepth = 512
    /// The most digits plus the exponent's size. `numeric` can hold 16,383 digits after the decimal point.
    private static let maximumNumberSize = 16_000

    private let input: [UInt8]
    private var position = 0
    private var output: [UInt8] = []

    init(_ input: [UInt8]) {
        self.input = input
        output.reserveCapacity(input.count)
    }

    /// The value without the white space around it, or nil when the input is not exactly one JSON value.
    mutating func scan() -> [UInt8]? {
        skipWhitespace()
        output.removeAll(keepingCapacity: true)
        guard value(depth: 0) else { return nil }
        let end = output.count
        skipWhitespace()
        return position == input.count ? Array(output[..<end]) : nil
    }

    private var next: UInt8? { position < input.count ? input[position] : nil }

    private mutating func copy() {
        output.append(input[position])
        position += 1
    }

    private mutating func copy(if wanted: Character) -> Bool {
        guard next == wanted.asciiValue else { return false }
        copy()
        return true
    }

    private mutating func skipWhitespace() {
        while next?.isJSONWhitespace == true { copy() }
    }

    private mutating func value(depth: Int) -> Bool {
        guard depth < Self.maximumDepth else { return false }
        switch next {
        case UInt8(ascii: "{"): return object(depth: depth)
        case UInt8(ascii: "["): return array(depth: depth)
        case UInt8(ascii: "\""): return string()
        case UInt8(ascii: "t"): return word("true")
        case UInt8(ascii: "f"): return word("false")
        case UInt8(ascii: "n"): return word("null")
        default: return number()
        }
    }

    private mutating func object(depth: Int) -> Bool {
        copy()
        skipWhitespace()
        if copy(if: "}") { return true }
        repeat {
            skipWhitespace()
            guard next == UInt8(ascii: "\""), string() else { return false }
            skipWhitespace()
            guard copy(if: ":") else { return false }
            skipWhitespace()
            guard value(depth: depth + 1) else { return false }
            skipWhitespace()
        } while copy(if: ",")
        return copy(if: "}")
    }

    private mutating func array(depth: Int) -> Bool {
        copy()
        skipWhitespace()
        if copy(if: "]") { return true }
        repeat {
            skipWhitespace()
            guard value(depth: depth + 1) else { return false }
            skipWhitespace()
        } while copy(if: ",")
        return copy(if: "]")
    }

    private mutating func word(_ word: StaticString) -> Bool {
        let bytes = UnsafeBufferPointer(start: word.utf8Start, count: word.utf8CodeUnitCount)
        guard input[position...].starts(with: bytes) else { return false }
        for _ in bytes { copy() }
        return true
    }

    private mutating func string() -> Bool {
        copy()
        while let byte = next {
            switch byte {
            case UInt8(ascii: "\""):
                copy()
                return true
            case 0..<0x20:
                return false
            case UInt8(ascii: "\\"):
                guard escape() else { return false }
            default:
                copy()
            }
        }
        return false
    }

    private mutating func escape() -> Bool {
        guard position + 1 < input.count else { return false }
        guard input[position + 1] == UInt8(ascii: "u") else {
            guard "\"\\/bfnrt".utf8.contains(input[position + 1]) else { return false }
            copy()
            copy()
            return true
        }
        guard let unit = codeUnit(at: position) else { return false }
        var length = 6
        if unit == 0 {
            // The escape is dropped, because `jsonb` cannot hold NUL.
        } else if UTF16.isLeadSurrogate(unit), let trail = codeUnit(at: position + 6), UTF16.isTrailSurrogate(trail) {
            length = 12
            output += input[position..<position + length]
        } else if UTF16.isSurrogate(unit) {
            output += Array("\\ufffd".utf8)
        } else {
            output += input[position..<position + length]
        }
        position += length
        return true
    }

    /// The number in the escape `\uXXXX` that starts at `index`.
    private func codeUnit(at index: Int) -> UInt16? {
        guard index + 6 <= input.count, input[index] == UInt8(ascii: "\\"), input[index + 1] == UInt8(ascii: "u")
        else { return nil }
        var unit: UInt16 = 0
        for byte in input[index + 2..<index + 6] {
            guard let digit = Character(Unicode.Scalar(byte)).hexDigitValue, byte < 0x80 else { return nil }
            unit = unit << 4 | UInt16(digit)
        }
        return unit
    }

    private mutating func number() -> Bool {
        _ = copy(if: "-")
        let start = position
        if next == UInt8(ascii: "0") { copy() } else if digits() == nil { return false }
        if copy(if: "."), digits() == nil { return false }
        var size = position - start
        if copy(if: "e") || copy(if: "E") {
            if !copy(if: "-") { _ = copy(if: "+") }
            guard let exponent = digits(), let magnitude = Int(exponent) else { return false }
            size = size.addingReportingOverflow(magnitude).partialValue
        }
        return (0...Self.maximumNumberSize).contains(size)
    }

    /// Copies one or more digits and returns them; nil when there are none.
    private mutating func digits() -> String? {
        let start = position
        while next?.isDigit == true { copy() }
        return position > start ? String(decoding: input[start..<position], as: UTF8.self) : nil
    }
}
