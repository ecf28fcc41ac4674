import Breakwater

/// Why a text is not a value: a message for people, which goes after the key.
struct ValueRefusal: Error, Equatable {
    var message: String

    init(_ message: String) {
        self.message = message
    }
}

extension Duration {
    /// The units of a duration's text, longest first, with their lengths.
    private static let units: [(name: String, milliseconds: Int64)] = [
        ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1),
    ]

    /// Reads `500ms`, `30s`, `5m`, `1h`, `1d`, or several of them, longest first: `1h30m`.
    ///
    /// - Parameter text: Whole numbers, each with its unit; a bare number is refused, for nobody can know what it
    ///   means.
    /// - Throws: ``ValueRefusal`` with what is wrong and how to write it.
    init(text: String) throws {
        guard !text.isEmpty, text.utf8.allSatisfy({ $0 != UInt8(ascii: " ") }) else {
            throw ValueRefusal("'\(text)' is not a duration; write one like 500ms, 30s, 5m, 1h, 1d or 1h30m")
        }
        if let number = Double(text) {
            throw ValueRefusal(
                "'\(text)' has no unit; write \(number == 0 ? "0s" : "\(text)s"), or another of ms, s, m, h and d"
            )
        }
        var rest = Substring(text)
        var total: Int64 = 0
        var unitsLeft = Self.units[...]
        while !rest.isEmpty {
            let digits = rest.prefix { $0.isASCII && $0.isNumber }
            let name = rest.dropFirst(digits.count).prefix { $0.isLetter }
            guard
                let count = Int64(digits),
                let unit = unitsLeft.firstIndex(where: { $0.name == name }),
                case let (length, overflowed) = count.multipliedReportingOverflow(by: Self.units[unit].milliseconds),
                !overflowed,
                case let (sum, sumOverflowed) = total.addingReportingOverflow(length),
                !sumOverflowed
            else {
                throw ValueRefusal("'\(text)' is not a duration; write one like 500ms, 30s, 5m, 1h, 1d or 1h30m")
            }
            total = sum
            unitsLeft = unitsLeft[(unit + 1)...]
            rest = rest.dropFirst(digits.count + name.count)
        }
        self = .milliseconds(total)
    }

    /// The text that reads back as this duration, to the millisecond: `1h30m`.
    package var text: String {
        let (seconds, attoseconds) = components
        var rest = seconds.multipliedReportingOverflow(by: 1000).partialValue + attoseconds / 1_000_000_000_000_000
        var text = ""
        for unit in Self.units where rest >= unit.milliseconds {
            text += "\(rest / unit.milliseconds)\(unit.name)"
            rest %= unit.milliseconds
        }
        return text.isEmpty ? "0s" : text
    }
}
