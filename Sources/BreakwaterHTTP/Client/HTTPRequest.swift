package import Breakwater

/// One request for the client to send.
struct HTTPRequest: Sendable {
    /// The request's method. Only `post`, `put` and `patch` send the body.
    var method = RequestFormat.Method.post
    var url: String
    /// The header lines in curl's format.
    var headers: [String]
    var body: [UInt8]
    /// The timeout of the whole request in milliseconds; at least 1.
    var timeoutMilliseconds: Int
    /// How many bytes of the answer's body are kept.
    var maxResponseBytes: Int
    /// The rules for the addresses that it may connect to.
    var policy: DestinationPolicy
    /// A file of certificate authorities that replace the system's.
    var caFile: String?
    /// Fixed DNS answers for tests, each as `host:port:address`.
    var resolve: [String] = []
}

/// How a request ended.
package enum HTTPAnswer: Sendable {
    case response(HTTPResponse)
    /// There was no complete answer.
    case failure(HTTPTransferFailure)
    /// The task that waited was cancelled.
    case cancelled
}

/// A server's answer.
package struct HTTPResponse: Sendable {
    package var status: Int
    package var body: [UInt8] = []
    /// Whether the body was longer than the part that is kept.
    package var isBodyCut = false
    /// The `Retry-After` header.
    package var retryAfter: String?
    /// The `Date` header.
    package var date: String?
}

/// The reason why there was no complete answer.
package struct HTTPTransferFailure: Sendable {
    package enum Code: String, Sendable {
        /// The host name does not resolve.
        case dns
        /// The connection was refused, reset, or closed before the end of the answer.
        case connection
        /// The server has no trusted certificate, or does not speak TLS.
        case tls
        /// No answer arrived in time.
        case timeout
        /// The address is not allowed.
        case refusedAddress
        /// The answer's headers are too long.
        case headers
        /// The answer is not HTTP.
        case `protocol`
        /// The request could not be made at all.
        case client
        /// This process lacks what it needs to make any request.
        case worker
    }

    package var code: Code
    /// A description for people, without the URL.
    package var reason: String
    /// The answer, if its headers were complete and its body was cut off.
    package var response: HTTPResponse?
    /// What this process lacks, for the code `worker`.
    package var missing: JobFailure?
}

extension HTTPTransferFailure {
    /// A failure because this process lacks a resource.
    init(missing failure: JobFailure) {
        self.init(code: .worker, reason: failure.message, missing: failure)
    }
}
