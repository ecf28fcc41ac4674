import Breakwater
import Foundation

/// Describes how the text of one setting is read, which values are allowed, and how a value is written as text.
///
/// The file, the environment and the flags all give texts, so one rule serves all three.
struct ValueRule<Value> {
    /// The allowed values, in words that follow "give": `a whole number from 1 to 9`.
    var allowed: String
    /// Returns the value of a text. For a text that is not allowed it returns nil, or throws a ``ValueRefusal`` with a
    /// more specific message.
    var parse: (String) throws -> Value?
    /// Returns the text that is read as the value.
    var text: (Value) -> String

    /// Reads a text.
    ///
    /// - Throws: ``ValueRefusal`` with the value and the allowed ones.
    func read(_ text: String) throws(ValueRefusal) -> Value {
        do {
            if let value = try parse(text) { return value }
        } catch let refusal as ValueRefusal {
            throw refusal
        } catch {
            throw ValueRefusal("'\(text)' cannot be read (\(error)); give \(allowed)")
        }
        throw ValueRefusal("'\(text)' is not allowed; give \(allowed)")
    }
}

extension ValueRule where Value == Int {
    /// A whole number in a range.
    static func whole(_ range: ClosedRange<Int>) -> Self {
        Self(
            allowed: "a whole number from \(range.lowerBound) to \(range.upperBound)",
            parse: { text in Int(text).flatMap { range.contains($0) ? $0 : nil } },
            text: { "\($0)" }
        )
    }

    /// A size in bytes, such as `64KiB`.
    static func bytes(_ range: ClosedRange<Int>) -> Self {
        let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)]
        func text(_ count: Int) -> String {
            // The largest unit that divides it; B divides everything.
            units.first { count.isMultiple(of: $0.1) }.map { "\(count / $0.1)\($0.0)" } ?? "\(count)B"
        }
        return Self(
            allowed: "a size from \(text(range.lowerBound)) to \(text(range.upperBound)), such as 64KiB",
            parse: { given in
                for (name, size) in units where given.hasSuffix(name) {
                    guard let count = Int(given.dropLast(name.count)) else { return nil }
                    let (total, overflowed) = count.multipliedReportingOverflow(by: size)
                    return !overflowed && range.contains(total) ? total : nil
                }
                return nil
            },
            text: text
        )
    }
}

extension ValueRule where Value == Duration {
    /// A duration in a range.
    static func duration(_ range: ClosedRange<Duration>) -> Self {
        Self(
            allowed: "a duration from \(range.lowerBound.text) to \(range.upperBound.text), such as 30s",
            parse: { text in
                let duration = try Duration(text: text)
                return range.contains(duration) ? duration : nil
            },
            text: \.text
        )
    }
}

extension ValueRule where Value == Double {
    /// A number in a range.
    static func number(_ range: ClosedRange<Double>) -> Self {
        Self(
            allowed: "a number from \(range.lowerBound.shortText) to \(range.upperBound.shortText)",
            parse: { text in Double(text).flatMap { range.contains($0) ? $0 : nil } },
            text: \.shortText
        )
    }

    /// A share of a whole, above 0 and up to 1: `50%` or `0.5`.
    static var share: Self {
        Self(
            allowed: "a share above 0% and up to 100%, such as 50% or 0.5",
            parse: { text in
                let value = text.hasSuffix("%") ? Double(text.dropLast()).map { $0 / 100 } : Double(text)
                return value.flatMap { $0 > 0 && $0 <= 1 ? $0 : nil }
            },
            text: { "\(($0 * 100).shortText)%" }
        )
    }
}

extension ValueRule where Value == Bool {
    /// `true` or `false`, or the other words that YAML has for them.
    static var flag: Self {
        Self(
            allowed: "true or false",
            parse: { text in
                switch text.lowercased() {
                case "true", "yes", "on", "1": true
                case "false", "no", "off", "0": false
                default: nil
                }
            },
            text: { "\($0)" }
        )
    }
}

extension ValueRule where Value == String {
    /// A text of limited length without control characters, which fits a column or a header.
    static func text(_ what: String, bytes: ClosedRange<Int>) -> Self {
        Self(
            allowed: "\(what) of \(bytes.lowerBound) to \(bytes.upperBound) bytes, without control characters",
            parse: { text in
                let isFine = bytes.contains(text.utf8.count) && !text.unicodeScalars.contains { $0.isControl }
                return isFine ? text : nil
            },
            text: { $0 }
        )
    }
}

extension ValueRule where Value: RawRepresentable, Value.RawValue == String, Value: CaseIterable {
    /// One of a type's cases, by its raw value.
    static var choice: Self {
        Self(
            allowed: "one of \(Value.allCases.map(\.rawValue).joined(separator: ", "))",
            parse: { Value(rawValue: $0) },
            text: \.rawValue
        )
    }
}

extension ValueRule {
    /// The same rule with `off` as another allowed value, which stands for nil.
    func orOff() -> ValueRule<Value?> {
        ValueRule<Value?>(
            allowed: "\(allowed), or off",
            // This is a doubly optional value: the inner nil is the value "off", the outer nil is a refusal.
            parse: { text in text == "off" ? .some(nil) : try parse(text).map(Optional.some) },
            text: { $0.map(text) ?? "off" }
        )
    }
}

extension Double {
    /// The number's text, without `.0` for a whole number.
    var shortText: String {
        self == rounded() && abs(self) < 1e15 ? "\(Int(self))" : "\(self)"
    }
}
