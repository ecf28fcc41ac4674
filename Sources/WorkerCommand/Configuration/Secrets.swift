import Foundation

/// Takes secrets out of what is shown.
enum Secrets {
    /// What stands in a secret's place.
    static let mask = "***"

    /// Words in the names of headers and variables whose values are secrets.
    private static let words = [
        "auth", "cookie", "credential", "key", "passphrase", "passwd", "password", "secret", "session", "signature",
        "token",
    ]

    /// Whether a header or a variable of this name usually carries a secret.
    static func isSecretName(_ name: String) -> Bool {
        let name = name.lowercased()
        return words.contains { name.contains($0) }
    }

    /// A connection string with its passwords masked, whichever of libpq's two forms it has.
    static func maskingPasswords(inConninfo conninfo: String) -> String {
        let isURL = conninfo.hasPrefix("postgresql://") || conninfo.hasPrefix("postgres://")
        return isURL ? maskingPasswords(inURL: conninfo) : maskingPasswords(inKeywords: conninfo)
    }

    /// A URL with the password before the host, and the query's secrets, masked.
    ///
    /// Texts, not `URLComponents`: what is not quite a URL must not be shown with its password either.
    static func maskingPasswords(inURL url: String) -> String {
        var url = url
        if let start = url.firstRange(of: "://")?.upperBound {
            let rest = url[start...]
            let authority = rest.prefix { !"/?#".contains($0) }
            // A password may hold an unescaped @, / or ?; the last @ of the whole text is the safer end then.
            let end = authority.lastIndex(of: "@") ?? rest.lastIndex(of: "@")
            if let end, let colon = rest[..<end].firstIndex(of: ":") {
                url.replaceSubrange(url.index(after: colon)..<end, with: mask)
            }
        }
        return url.replacing(/([?&][^=&]*(?:pass|secret|token|key|signature)[^=&]*=)[^&#]*/.ignoresCase()) {
            $0.1 + mask
        }
    }

    private static func maskingPasswords(inKeywords conninfo: String) -> String {
        conninfo.replacing(/((?:pass|ssl)password\s*=\s*|password\s*=\s*)('(?:[^'\\]|\\.)*'?|(?:[^\s\\]|\\.)*)/) {
            $0.1 + mask
        }
    }
}
