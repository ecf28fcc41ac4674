import Breakwater
import Foundation

/// A JSON document for the readers of `--json`. Its keys keep the order in which they were added.
package enum JSONValue: Equatable, ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral
{
    case string(String)
    case integer(Int64)
    case number(Double)
    case bool(Bool)
    case null
    case array([JSONValue])
    case object([Member])
    /// JSON text from the database.
    case raw(String)

    /// One key of an object.
    package struct Member: Equatable {
        var key: String
        var value: JSONValue

        package init(_ key: String, _ value: JSONValue) {
            self.key = key
            self.value = value
        }
    }

    package init(stringLiteral value: String) { self = .string(value) }
    package init(integerLiteral value: Int64) { self = .integer(value) }
    package init(booleanLiteral value: Bool) { self = .bool(value) }

    /// An object from its members.
    package static func object(_ members: KeyValuePairs<String, JSONValue>) -> JSONValue {
        .object(members.map { Member($0.key, $0.value) })
    }

    /// The members of an object. Any other value has none.
    var members: [Member] { if case .object(let members) = self { members } else { [] } }

    /// A text, or null.
    static func string(orNull text: String?) -> JSONValue { text.map { .string($0) } ?? .null }

    /// A whole number, or null.
    static func integer(orNull number: Int?) -> JSONValue { number.map { .integer(Int64($0)) } ?? .null }

    /// A number, or null.
    static func number(orNull number: Double?) -> JSONValue { number.map { .number($0) } ?? .null }

    /// A time as RFC 3339 in UTC, or null.
    static func time(_ date: Date?) -> JSONValue { date.map { .string($0.timeText) } ?? .null }

    /// A duration in seconds, or null.
    package static func seconds(_ duration: Duration?) -> JSONValue {
        duration.map { .number(Double($0 / .milliseconds(1)) / 1000) } ?? .null
    }

    /// The document, indented by two blanks.
    var text: String { text(depth: 0) }

    /// The document on one line, for output with one document a line.
    var lineText: String {
        switch self {
        case .array(let values): "[\(values.map(\.lineText).joined(separator: ", "))]"
        case .object(let members):
            "{\(members.map { "\($0.key.jsonText): \($0.value.lineText)" }.joined(separator: ", "))}"
        default: text
        }
    }

    private func text(depth: Int) -> String {
        let indentation = String(repeating: "  ", count: depth + 1)
        let end = "\n" + String(repeating: "  ", count: depth)
        switch self {
        case .string(let text): return text.jsonText
        case .integer(let number): return "\(number)"
        case .number(let number): return number.isFinite ? number.shortText : "null"
        case .bool(let flag): return "\(flag)"
        case .null: return "null"
        // In valid JSON such a character can only be in a string, where its escape means the same.
        case .raw(let text): return text.escapingControlCharacters
        case .array(let values) where values.isEmpty: return "[]"
        case .array(let values):
            let lines = values.map { indentation + $0.text(depth: depth + 1) }
            return "[\n" + lines.joined(separator: ",\n") + end + "]"
        case .object(let members) where members.isEmpty: return "{}"
        case .object(let members):
            let lines = members.map { "\(indentation)\($0.key.jsonText): \($0.value.text(depth: depth + 1))" }
            return "{\n" + lines.joined(separator: ",\n") + end + "}"
        }
    }
}

extension Date {
    /// The time in the format of RFC 3339 in UTC, to the millisecond.
    var timeText: String {
        formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
    }

    /// The time for tables: to the second, with a blank between date and time.
    var shortText: String {
        formatted(Date.ISO8601FormatStyle()).replacing("T", with: " ")
    }
}

extension Duration {
    /// The duration for tables: in its two largest units, such as `3m12s`; milliseconds only below a second.
    package var shortText: String {
        let seconds = components.seconds
        switch seconds {
        case ..<1: return self <= .zero ? "0s" : Duration.milliseconds(Int64(self / .milliseconds(1))).text
        case ..<3600: return Duration.seconds(seconds).text
        case ..<86_400: return Duration.seconds(seconds / 60 * 60).text
        default: return Duration.seconds(seconds / 3600 * 3600).text
        }
    }
}
