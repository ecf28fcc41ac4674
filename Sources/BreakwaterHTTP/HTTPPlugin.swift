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
/// An answer counts once its headers are complete. If its body breaks off, a 2xx is unavailable, and any other status
/// keeps its class.
///
/// One run sends one request. If the server closes a kept connection without an answer, the job's own backoff decides
/// when the next run sends the request again.
///
/// A 429, 503 or 529 that says `Retry-After` is obeyed, up to a day. It never shortens the job's own backoff. A 429
/// without a time to come waits a second, and twice as long with each further 429 in a row, up to an hour. A result
/// that is a JSON value is kept as it is, other text becomes a JSON string, and an empty body is no result.
///
/// Requests carry the job in `Breakwater-Job-Id`, `-Kind`, `-Queue`, `-Attempt`, `-Max-Attempts` and `-Deadline`
/// (control characters, `%` and what is not ASCII written as `%XX`), `Idempotency-Key`, and `traceparent` and
/// `tracestate` where the job has them. With a secret they are signed as [Standard
/// Webhooks](https://www.standardwebhooks.com).
///
/// A host name may resolve to public addresses only, unless `allow` says more; an address or `localhost` in the URL is
/// meant as it stands. The metadata services of clouds are refused in either case, unless `allow` lists them. No proxy
/// is used. Neither logs nor failures show the URL's query, a header or the secret.
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
    /// Texts that an answer might echo and that failures must not show.
    let secrets: [String]
    /// Answers of a name server made up for tests, as `host:port:address`.
    var resolve: [String] = []

    /// A plugin that sends jobs to this URL.
    ///
    /// - Parameters:
    ///   - url: An http or https URL without a user, a password or a fragment. Its host is written in ASCII.
    ///   - headers: Headers that every request carries, such as `Authorization`. Defaults to none.
    ///   - secret: The key that signs requests: `whsec_` and 24 to 64 bytes in Base64. Defaults to none.
    ///   - allow: What the URL's host name may resolve to beside public addresses: addresses, networks such as
    ///     `10.0.0.0/8`, or the name itself, which then may resolve to anything. Defaults to none.
    ///   - maxResponseBytes: How much of an answer's body is kept. Defaults to 64 KiB.
    ///   - caFile: A PEM file of the certificate authorities that are trusted in place of the system's. Defaults to
    ///     none.
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
        // Its thread and its descriptors are taken now: they may be short once jobs run.
        _ = HTTPClient.shared
    }

    /// Sends one job and judges the answer.
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

    /// A little less than the time that is left, so that silence is reported as the server's fault and not as the
    /// job's.
    static func timeoutMilliseconds(within remaining: Duration) -> Int {
        let seconds = min(remaining.inSeconds, 86_400 * 7)
        return max(1, Int((seconds - min(0.25, seconds / 10)) * 1000))
    }

    /// Where the jobs go, without the query.
    public var description: String { "HTTPPlugin(\(endpoint.display))" }

    /// Nothing beside the description: the fields hold secrets.
    public var customMirror: Mirror { Mirror(self, children: [("url", endpoint.display)]) }
}
