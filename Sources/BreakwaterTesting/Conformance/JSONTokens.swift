import Foundation

/// The parts of a JSON text, for comparisons that neither the order of members nor the form of numbers and texts
/// affects.
///
/// A parser would refuse what some samples have: numbers beyond all types, and depths beyond its own.
struct JSONTokens {
    private var tokens: [[UInt8]] = []
    private let input: [UInt8]
    private var position = 0

    private init(_ json: String) {
        input = Array(json.utf8)
        while position < input.count { read() }
    }

    /// Whether two JSON texts have the same value. Neither may be missing, unless both are.
    static func areEqual(_ left: String?, _ right: String?) -> Bool {
        guard let left, let right, left != right else { return left == right }
        let (mine, others) = (JSONTokens(left).tokens, JSONTokens(right).tokens)
        if mine == others { return true }
        guard mine.count == others.count else { return false }
        // Members may come in another order.
        return mine.sorted { $0.lexicographicallyPrecedes($1) } == others.sorted { $0.lexicographicallyPrecedes($1) }
    }

    /// The text that a JSON string is; nil if the JSON is something else.
    static func text(_ json: String) -> String? {
        let tokens = JSONTokens(json).tokens
        guard tokens.count == 1, let token = tokens.first, token.first == UInt8(ascii: "\"") else { return nil }
        return String(decoding: token.dropFirst(), as: UTF8.self)
    }

    private mutating func read() {
        let byte = input[position]
        switch byte {
        case 0x20, 0x0A, 0x0D, 0x09: position += 1
        case UInt8(ascii: "\""): readString()
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): readNumber()
        default:
            tokens.append([byte])
            position += 1
        }
    }

    private mutating func readNumber() {
        let start = position
        while position < input.count, "+-.eE0123456789".utf8.contains(input[position]) { position += 1 }
        let number = Double(String(decoding: input[start..<position], as: UTF8.self)) ?? .nan
        // Zero has a sign, which not every language keeps.
        tokens.append(Array("\(number == 0 ? 0 : number)".utf8))
    }

    /// Appends a quotation mark and the text without escapes.
    private mutating func readString() {
        var token: [UInt8] = [UInt8(ascii: "\"")]
        position += 1
        while position < input.count, input[position] != UInt8(ascii: "\"") {
            guard input[position] == UInt8(ascii: "\\"), position + 1 < input.count else {
                token.append(input[position])
                position += 1
                continue
            }
            position += 2
            switch input[position - 1] {
            case UInt8(ascii: "n"): token.append(0x0A)
            case UInt8(ascii: "r"): token.append(0x0D)
            case UInt8(ascii: "t"): token.append(0x09)
            case UInt8(ascii: "b"): token.append(0x08)
            case UInt8(ascii: "f"): token.append(0x0C)
            case UInt8(ascii: "u"): token += readScalar()
            case let byte: token.append(byte)
            }
        }
        position += 1
        tokens.append(token)
    }

    /// The UTF-8 of the scalar whose escape has just begun.
    private mutating func readScalar() -> [UInt8] {
        var units = [readUnit()]
        if UTF16.isLeadSurrogate(units[0]), input[position...].starts(with: "\\u".utf8) {
            position += 2
            units.append(readUnit())
        }
        return Array(String(decoding: units, as: UTF16.self).utf8)
    }

    private mutating func readUnit() -> UInt16 {
        let digits = input[position..<min(position + 4, input.count)]
        position += digits.count
        return UInt16(String(decoding: digits, as: UTF8.self), radix: 16) ?? 0xFFFD
    }
}
