import Breakwater

/// A value of the effective configuration as it is shown, with defaults filled in and secrets masked.
indirect enum EffectiveValue: Equatable {
    case text(String)
    case list([EffectiveValue])
    case map([EffectiveEntry])
    /// JSON text, which is also valid YAML.
    case json(String)

    /// Whether the value is written after its key, on the same line.
    private var isInline: Bool {
        switch self {
        case .text, .list, .json: true
        case .map(let entries): entries.isEmpty
        }
    }

    /// The value on one line.
    private var inlineText: String {
        switch self {
        case .text(let text): Self.quoted(text)
        case .json(let json): json
        case .list(let values): "[\(values.map(\.inlineText).joined(separator: ", "))]"
        case .map(let entries):
            entries.isEmpty
                ? "{}"
                : "{ \(entries.map { "\(Self.quoted($0.key)): \($0.value.inlineText)" }.joined(separator: ", ")) }"
        }
    }

    /// The value as lines of YAML.
    ///
    /// - Parameter depth: The level of indentation; each is two blanks.
    func lines(depth: Int = 0) -> [String] {
        let indentation = String(repeating: "  ", count: depth)
        guard case .map(let entries) = self else { return [indentation + inlineText] }
        return entries.flatMap { entry in
            let comment = entry.comment.map { "  # \($0)" } ?? ""
            let key = indentation + Self.quoted(entry.key) + ":"
            return entry.value.isInline
                ? ["\(key) \(entry.value.inlineText)\(comment)"]
                : [key + comment] + entry.value.lines(depth: depth + 1)
        }
    }

    /// A scalar as YAML. It is plain if that is certain to be read as the same text, and otherwise quoted as in JSON.
    private static func quoted(_ text: String) -> String {
        let isPlain = text.wholeMatch(of: /[A-Za-z0-9_\/.][A-Za-z0-9_\/.%+@-]*/) != nil
        if isPlain, text.lowercased() != "null" { return text }
        var quoted = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": quoted += "\\\""
            case "\\": quoted += "\\\\"
            case "\n": quoted += "\\n"
            case "\t": quoted += "\\t"
            case _ where scalar.isControl: quoted += "\\u" + scalar.value.fourHexDigits
            default: quoted.unicodeScalars.append(scalar)
            }
        }
        return quoted + "\""
    }
}

/// One key of the effective configuration.
struct EffectiveEntry: Equatable {
    var key: String
    var value: EffectiveValue
    /// Where the value came from, if that is shown.
    var comment: String?
}
