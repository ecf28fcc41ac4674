import Breakwater
import Foundation
import Yams

extension Node {
    /// The node as JSON text. A scalar that YAML reads as a number, true, false or null stays one. Any other scalar
    /// becomes a string.
    ///
    /// - Parameter substitute: Replaces `${NAME}` in each string.
    /// - Throws: ``ValueRefusal`` for a value that JSON cannot represent, and whatever `substitute` throws.
    func json(substituting substitute: (String) throws(ValueRefusal) -> String) throws(ValueRefusal) -> String {
        switch self {
        case .mapping(let mapping):
            var members: [String] = []
            for (key, value) in mapping {
                guard let name = key.scalar?.string else { throw ValueRefusal("a key of JSON must be a text") }
                members.append("\(name.jsonText):\(try value.json(substituting: substitute))")
            }
            return "{\(members.joined(separator: ","))}"
        case .sequence(let sequence):
            var elements: [String] = []
            for value in sequence {
                elements.append(try value.json(substituting: substitute))
            }
            return "[\(elements.joined(separator: ","))]"
        case .scalar(let scalar):
            guard scalar.style == .plain else { return try substitute(scalar.string).jsonText }
            if isEmptyScalar { return "null" }
            if scalar.string == "true" || scalar.string == "false" { return scalar.string }
            // This is JSON's grammar for numbers. A match keeps its digits as they are written.
            if scalar.string.wholeMatch(of: /-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/) != nil {
                return scalar.string
            }
            return try substitute(scalar.string).jsonText
        case .alias:
            throw ValueRefusal("an alias cannot stand here")
        }
    }
}

extension String {
    /// This text as a JSON string, with control characters escaped.
    var jsonText: String {
        var json = "\""
        json.reserveCapacity(utf8.count + 2)
        for scalar in unicodeScalars {
            switch scalar {
            case "\"": json += "\\\""
            case "\\": json += "\\\\"
            case "\n": json += "\\n"
            case "\r": json += "\\r"
            case "\t": json += "\\t"
            case _ where scalar.isControl: json += "\\u" + scalar.value.fourHexDigits
            default: json.unicodeScalars.append(scalar)
            }
        }
        return json + "\""
    }
}

extension UInt32 {
    /// At least four hexadecimal digits. Every control character has no more.
    var fourHexDigits: String {
        let digits = String(self, radix: 16)
        return String(repeating: "0", count: Swift.max(0, 4 - digits.count)) + digits
    }
}
