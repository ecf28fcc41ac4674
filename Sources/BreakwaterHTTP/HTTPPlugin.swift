public import Breakwater
import Foundation

/// Sends each job as one POST request to a URL.
///
/// The payload is the body, and the answer's status says how the job ended:
///
/// | answer | outcome |
/// |---|---|
/// | 2xx | succeeded; the body is the result |
/// | 3xx | failed: redirects are refused |
/// | 408, 423, 425, 5xx | failed |
/// | 502, 503, 504, 529, or none (no such name, refused, reset, no TLS, no answer in time) | unavailable |
/// | 429 | throttled |
/// | any other 4xx | discarded |
/// | none, for this worker has no descriptor, process, memory or port for a request, or no such `caFile` | unable |
///
/// An answer counts once its headers are complete. If its body is then cut off, a 2xx is unavailable, and any other
/// status keeps its outcome.
///
/// One run sends one request. If the server closes a kept connection without an answer, the job's own backoff decides
/// when the next run sends the request again.
///
/// The `Retry-After` of a 429, 503 or 529 is obeyed, up to a day. It never shortens the job's own backoff. After a 429
/// without a usable `Retry-After` the job waits a second, and twice as long after each further 429 in a row, up to an
/// hour. A result that is a JSON value is kept as it is. Other text becomes a JSON string, and an empty body is no
/// result.
///
/// Requests carry the job in `Breakwater-Job-Id`, `-Kind`, `-Queue`, `-Attempt`, `-Max-Attempts` and `-Deadline`
/// (with control characters, `%` and non-ASCII bytes written as `%XX`), `Idempotency-Key`, and `traceparent` and
/// `tracestate` if the job has them. With a secret they are signed according to [Standard
/// Webhooks](https://www.standardwebhooks.com).
///
/// A host name may resolve only to public addresses and to those in `allow`. An address or `localhost` in the URL is
/// allowed as it is. The metadata services of clouds are refused in both cases, unless `allow` lists them. No proxy is
/// used. Neither logs nor failures show the URL's query, a header or the secret.
///
/// ```swift
/// let deliver = try HTTPPlugin(url: "https://hooks.example/orders", secret: key)
/// ```
public struct HTTPPlugin: HandlerPlugin, CustomStringConvertible, CustomReflectable {
    let endpoint: HTTPEndpoint
    let maxResponseBytes: Int
    private let headers: HTTPHeaders
    private let key: WebhookKey?
    private let policy: DestinationPolicy
    private let caFile: String?
    /// Secrets that an answer might echo and that failures must not show.
    let secrets: [String]
    /// Fixed DNS answers for tests, each as `host:port:address`.
    var resolve: [String] = []

    /// A plugin that sends jobs to this URL.
    ///
    /// - Parameters:
    ///   - url: An http or https URL without a user, a password or a fragment. Its host is written in ASCII.
    ///   - headers: Headers that every request carries, such as `Authorization`. Defaults to none.
    ///   - secret: The key that signs requests: `whsec_` and 24 to 64 bytes in Base64. Defaults to none.
    ///   - allow: What the URL's host name may resolve to in addition to public addresses: addresses, networks such as
    ///     `10.0.0.0/8`, or the name itself, which then may resolve to any address. Defaults to none.
    ///   - maxResponseBytes: How many bytes of an answer's body are kept. Defaults to 64 KiB.
    ///   - caFile: A PEM file of certificate authorities that are trusted instead of the system's. Defaults to none.
    /// - Throws: ``HTTPPluginError`` when a value is not allowed.
    public init(
        url: String,
        headers: [String: String] = [:],
        secret: String? = nil,
        allow: [String] = [],
        maxResponseBytes: Int = 64 << 10,
        caFile: String? = nil
    ) throws {
        guard maxResponseBytes > 0 else {
            throw HTTPPluginError(.invalidLimit, "maxResponseBytes is \(maxResponseBytes): it must be at least 1")
        }
        if let caFile, !FileManager.default.isReadableFile(atPath: caFile) {
            throw HTTPPluginError(.invalidCAFile, "the file of certificate authorities '\(caFile)' cannot be read")
        }
        endpoint = try HTTPEndpoint(url)
        self.headers = try HTTPHeaders(headers)
        key = try secret.map(WebhookKey.init)
        policy = try DestinationPolicy(host: endpoint.host, allow: allow)
        self.maxResponseBytes = maxResponseBytes
        self.caFile = caFile
        secrets = Self.secrets(in: headers, secret: secret, query: endpoint.query)
        // The client's thread and descriptors are created now, because they may be scarce once jobs run.
        _ = HTTPClient.shared
    }

    /// Sends one job and derives its outcome from the answer.
    ///
    /// - Throws: `CancellationError` when the job was cancelled; its connection is closed by then.
    public func run(_ job: Job, context: JobContext) async throws -> JobOutcome {
        try Task.checkCancellation()
        let body = Array(job.payload.utf8)
        let signature = key?.headers(id: job.idempotencyKey, time: Date(), body: body) ?? []
        let request = HTTPRequest(
            url: endpoint.url,
            headers: headers.lines(for: job, context: context, signature: signature),
            body: body,
            timeoutMilliseconds: Self.timeoutMilliseconds(within: context.remainingTime),
            maxResponseBytes: maxResponseBytes,
            policy: policy,
            caFile: caFile,
            resolve: resolve
        )
        switch await HTTPClient.shared.send(request) {
        case .response(let response): return outcome(of: response, logger: context.logger)
        case .failure(let failure): return outcome(of: failure)
        case .cancelled: throw CancellationError()
        }
    }

    /// The request's timeout is a little shorter than the remaining time of the run, so that a server that does not
    /// answer is reported as unavailable rather than the job as timed out.
    static func timeoutMilliseconds(within remaining: Duration) -> Int {
        let seconds = min(remaining.inSeconds, 86_400 * 7)
        return max(1, Int((seconds - min(0.25, seconds / 10)) * 1000))
    }

    /// The URL that jobs are sent to, without the query.
    public var description: String { "HTTPPlugin(\(endpoint.display))" }

    /// Only the URL without its query, because the fields hold secrets.
    public var customMirror: Mirror { Mirror(self, children: [("url", endpoint.display)]) }
}
