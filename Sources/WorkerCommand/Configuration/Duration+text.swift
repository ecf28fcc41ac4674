import Breakwater

/// The reason why a text is not a valid value. The message follows the key.
struct ValueRefusal: Error, Equatable {
    var message: String

    init(_ message: String) {
        self.message = message
    }
}

extension Duration {
    /// Reads `500ms`, `30s`, `5m`, `1h`, `1d`, or several of them with the longest unit first: `1h30m`.
    ///
    /// - Parameter text: Whole numbers, each with its unit. A bare number is refused because it is ambiguous.
    /// - Throws: ``ValueRefusal`` with the problem and the correct format.
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
}
