import Foundation

/// Masks secrets in text that is shown.
enum Secrets {
    /// The text that replaces a secret.
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
    /// This works on the text rather than on `URLComponents`, so that the password of a malformed URL is masked too.
    static func maskingPasswords(inURL url: String) -> String {
        var url = url
        if let start = url.firstRange(of: "://")?.upperBound {
            let rest = url[start...]
            let authority = rest.prefix { !"/?#".contains($0) }
            // A password may contain an unescaped @, / or ?. In that case the last @ of the whole text is the safer
            // end.
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
