/// Substitutes environment variables in the texts of the file, so that secrets need not be in the file.
///
/// `${NAME}` stands for a variable that must be set. `${NAME:-text}` stands for a variable, or for `text` if the
/// variable is unset or empty. `$${` stands for a literal `${`.
enum Substitution {
    /// Replaces every variable in a text.
    ///
    /// - Parameters:
    ///   - text: A value of the file.
    ///   - environment: The variables.
    /// - Returns: The text to use, and whether a variable was substituted in it.
    /// - Throws: ``ValueRefusal`` for a variable that is not set, or a `${` without an end.
    static func apply(
        to text: String,
        environment: [String: String]
    ) throws(ValueRefusal) -> (text: String, isSubstituted: Bool) {
        guard text.contains("${") else { return (text, false) }
        var result = ""
        var isSubstituted = false
        var rest = Substring(text)
        while let start = rest.firstRange(of: "${") {
            if start.lowerBound > rest.startIndex, rest[rest.index(before: start.lowerBound)] == "$" {
                result += rest[..<start.lowerBound].dropLast() + "${"
                rest = rest[start.upperBound...]
                continue
            }
            guard let end = rest[start.upperBound...].firstIndex(of: "}") else {
                throw ValueRefusal(
                    "'\(text)' has a ${ without its }; write ${NAME}, or $${ for the characters themselves"
                )
            }
            result += rest[..<start.lowerBound]
            result += try value(of: rest[start.upperBound..<end], environment: environment)
            isSubstituted = true
            rest = rest[rest.index(after: end)...]
        }
        return (result + rest, isSubstituted)
    }

    private static func value(
        of reference: Substring,
        environment: [String: String]
    ) throws(ValueRefusal) -> String {
        let parts = reference.split(separator: ":-", maxSplits: 1, omittingEmptySubsequences: false)
        let name = String(parts[0])
        guard !name.isEmpty, name.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_") }) else {
            throw ValueRefusal("'${\(reference)}' does not name an environment variable; write ${NAME}")
        }
        if parts.count == 2 {
            let given = environment[name] ?? ""
            return given.isEmpty ? String(parts[1]) : given
        }
        guard let given = environment[name] else {
            throw ValueRefusal(
                "the environment variable \(name) is not set; set it, or write ${\(name):-text} to do without it"
            )
        }
        return given
    }
}
