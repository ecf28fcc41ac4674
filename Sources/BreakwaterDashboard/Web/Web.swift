/// A request, reduced to the parts that the dashboard uses.
struct WebRequest: Sendable {
    enum Method: String, Sendable {
        case get = "GET"
        case post = "POST"
    }

    var method: Method
    /// The decoded path, without the query.
    var path: String
    var query = FormValues()
    /// The body of a POST.
    var form = FormValues()
    /// The headers by name in lower case. A header that is given several times has all its values, in order.
    var headers: [String: [String]] = [:]
    /// The address of the connection's peer; empty when it is unknown.
    var peer = ""

    /// The only value of a header; nil if the header is missing or was given more than once.
    func header(_ name: String) -> String? {
        guard let values = headers[name], values.count == 1 else { return nil }
        return values[0]
    }

    /// A cookie's value.
    func cookie(_ name: String) -> String? {
        for header in headers["cookie"] ?? [] {
            for part in header.split(separator: ";") {
                let sides = part.split(separator: "=", maxSplits: 1)
                if sides.count == 2, sides[0].trimmed == name { return sides[1].trimmed }
            }
        }
        return nil
    }
}

/// The answer to a request.
struct WebAnswer: Sendable {
    var status: Int
    var headers: [(name: String, value: String)]
    var body: [UInt8]

    private init(status: Int, headers: [(name: String, value: String)], body: [UInt8]) {
        self.status = status
        self.headers = headers
        self.body = body
    }

    /// A page.
    static func page(_ html: HTML, status: Int = 200) -> WebAnswer {
        WebAnswer(
            status: status,
            headers: [("content-type", "text/html; charset=utf-8"), ("cache-control", "no-store")],
            body: Array(html.document.utf8)
        )
    }

    /// A redirect after an action, to a page that shows the result.
    static func redirect(_ link: Link) -> WebAnswer {
        WebAnswer(status: 303, headers: [("location", link.text), ("cache-control", "no-store")], body: [])
    }

    /// A file whose content at this address never changes.
    static func asset(_ bytes: [UInt8], type: String) -> WebAnswer {
        WebAnswer(
            status: 200,
            headers: [("content-type", type), ("cache-control", "public, max-age=31536000, immutable")],
            body: bytes
        )
    }

    /// The answer with one more header.
    func with(_ name: String, _ value: String) -> WebAnswer {
        var answer = self
        answer.headers.append((name, value))
        return answer
    }

    /// The security headers of every answer. Only the dashboard's own files may be loaded and run, pages cannot be
    /// framed, and other sites get no referrer.
    static let securityHeaders: [(name: String, value: String)] = [
        (
            "content-security-policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
                + "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        ),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        // `no-referrer` would make browsers hide the origin of a form, which is checked.
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ]
}
