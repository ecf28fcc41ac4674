package import Breakwater

/// One request, as the client sends it.
struct HTTPRequest: Sendable {
    /// Whether it sends its body, or only asks.
    enum Method: Sendable {
        case get, post
    }

    var method = Method.post
    var url: String
    /// The header lines as curl takes them.
    var headers: [String]
    var body: [UInt8]
    /// How long it may take from beginning to end, in milliseconds; at least 1.
    var timeoutMilliseconds: Int
    /// How much of the answer's body is kept.
    var maxResponseBytes: Int
    /// Which addresses it may connect to.
    var policy: DestinationPolicy
    /// A file of certificate authorities in place of the system's.
    var caFile: String?
    /// Answers of a name server made up for tests, as `host:port:address`.
    var resolve: [String] = []
}

/// How a request ended.
package enum HTTPAnswer: Sendable {
    case response(HTTPResponse)
    /// There was no whole answer.
    case failure(HTTPTransferFailure)
    /// The task that waited was cancelled.
    case cancelled
}

/// What a server answered.
package struct HTTPResponse: Sendable {
    package var status: Int
    package var body: [UInt8] = []
    /// Whether the body was longer than what was kept.
    package var isBodyCut = false
    /// The `Retry-After` header.
    package var retryAfter: String?
    /// The `Date` header.
    package var date: String?
}

/// Why there was no whole answer.
package struct HTTPTransferFailure: Sendable {
    package enum Code: String, Sendable {
        /// The name does not resolve.
        case dns
        /// Refused, reset, or closed before the answer's end.
        case connection
        /// No certificate that can be trusted, or no TLS at all.
        case tls
        /// No answer in time.
        case timeout
        /// The address is not allowed.
        case refusedAddress
        /// The answer has more headers than are read.
        case headers
        /// The answer is not HTTP.
        case `protocol`
        /// The request could not be made at all.
        case client
        /// This process lacks what it needs to make any request.
        case worker
    }

    package var code: Code
    /// What happened, for people, without the URL.
    package var reason: String
    /// The answer, if its headers were complete and its body broke off.
    package var response: HTTPResponse?
    /// For the code `worker`: what is missing.
    package var missing: JobFailure?
}

extension HTTPTransferFailure {
    /// This process lacks something.
    init(missing failure: JobFailure) {
        self.init(code: .worker, reason: failure.message, missing: failure)
    }
}
