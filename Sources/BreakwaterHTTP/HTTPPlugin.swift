public import Breakwater
import Foundation

/// Sends each job as one request to a URL: a POST with the payload as its body, unless a ``RequestFormat`` says
/// otherwise. The answer's status says how the job ended:
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
/// The URL is fixed, or is in the payload (``init(urlAt:headers:secret:allow:format:maxResponseBytes:caFile:)``), or is
/// that of an endpoint, a row of `breakwater.endpoint` that the payload names
/// (``init(endpointAt:in:rule:headers:allow:format:maxResponseBytes:caFile:)``).
///
/// A host name may resolve only to public addresses and to those in `allow`. An address or `localhost` in a fixed URL is
/// allowed as it is, and in any other URL only if `allow` lists it. The metadata services of clouds are refused in all
/// cases, unless `allow` lists them. No proxy is used. Neither logs nor failures show the URL's query, a header or the
/// secret.
///
/// ```swift
/// let deliver = try HTTPPlugin(url: "https://hooks.example/orders", secret: key)
/// ```
public struct HTTPPlugin: SuspendingPlugin, CustomStringConvertible, CustomReflectable {
    /// Where the URL of a job's request comes from.
    enum Target: Sendable {
        case fixed(HTTPDestination)
        /// The URL is at this path of the payload.
        case payload(path: [String])
        /// The name of an endpoint is at this path of the payload.
        case endpoint(path: [String], EndpointDirectory, EndpointRule)
    }

    let target: Target
    let format: RequestFormat
    let maxResponseBytes: Int
    let headers: [String: String]
    let secrets: [String]
    let allow: [String]
    let destinations = DestinationCache()
    private let caFile: String?
    private let client: HTTPClient
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
    ///   - format: The method, the body and the statuses that count as a success. Defaults to a POST of the payload.
    ///   - maxResponseBytes: How many bytes of an answer's body are kept. Defaults to 64 KiB.
    ///   - caFile: A PEM file of certificate authorities that are trusted instead of the system's. Defaults to none.
    /// - Throws: ``HTTPPluginError`` when a value is not allowed.
    public init(
        url: String,
        headers: [String: String] = [:],
        secret: String? = nil,
        allow: [String] = [],
        format: RequestFormat = RequestFormat(),
        maxResponseBytes: Int = 64 << 10,
        caFile: String? = nil
    ) throws {
        let secrets = secret.map { [$0] } ?? []
        let destination = try HTTPDestination(
            url: url,
            headers: headers,
            secrets: secrets,
            allow: allow,
            isFromOperator: true
        )
        try self.init(.fixed(destination), headers, secrets, allow, format, maxResponseBytes, caFile)
    }

    /// A plugin that sends each job to the URL that its payload names.
    ///
    /// The people who enqueue jobs then decide to which public addresses this worker sends requests. A job without a URL
    /// that can be used is discarded.
    ///
    /// - Parameters:
    ///   - path: The path of the URL in the payload: names of members and indexes of elements, the outermost first.
    ///   - headers: Headers that every request carries, to any URL. Defaults to none.
    ///   - secret: The key that signs requests. Defaults to none.
    ///   - allow: What the URL's host may be or resolve to in addition to public addresses. Defaults to none.
    ///   - format: The method, the body and the statuses that count as a success. Defaults to a POST of the payload.
    ///   - maxResponseBytes: How many bytes of an answer's body are kept. Defaults to 64 KiB.
    ///   - caFile: A PEM file of certificate authorities that are trusted instead of the system's. Defaults to none.
    /// - Throws: ``HTTPPluginError`` when a value is not allowed.
    public init(
        urlAt path: [String],
        headers: [String: String] = [:],
        secret: String? = nil,
        allow: [String] = [],
        format: RequestFormat = RequestFormat(),
        maxResponseBytes: Int = 64 << 10,
        caFile: String? = nil
    ) throws {
        try self.init(
            .payload(path: path),
            headers,
            secret.map { [$0] } ?? [],
            allow,
            format,
            maxResponseBytes,
            caFile
        )
    }

    /// A plugin that sends each job to the endpoint that its payload names.
    ///
    /// An endpoint is a row of `breakwater.endpoint`, with its URL, headers and secrets. Set the handler's circuit key to
    /// the same path, so that each endpoint has a circuit of its own: ``endpointPath`` is what
    /// `HandlerSettings.circuit.key` needs. Run the directory beside the worker.
    ///
    /// - Parameters:
    ///   - path: The path of the endpoint's name in the payload: names of members and indexes of elements, the outermost
    ///     first.
    ///   - directory: Reads the endpoints. Handlers may share one.
    ///   - rule: When an endpoint is disabled, and what happens to its jobs then. Defaults to never.
    ///   - headers: Headers that every request carries, unless the endpoint has its own of the same name. Defaults to
    ///     none.
    ///   - allow: What the URL's host may be or resolve to in addition to public addresses. Defaults to none.
    ///   - format: The method, the body and the statuses that count as a success. Defaults to a POST of the payload.
    ///   - maxResponseBytes: How many bytes of an answer's body are kept. Defaults to 64 KiB.
    ///   - caFile: A PEM file of certificate authorities that are trusted instead of the system's. Defaults to none.
    /// - Throws: ``HTTPPluginError`` when a value is not allowed.
    public init(
        endpointAt path: [String],
        in directory: EndpointDirectory,
        rule: EndpointRule = EndpointRule(),
        headers: [String: String] = [:],
        allow: [String] = [],
        format: RequestFormat = RequestFormat(),
        maxResponseBytes: Int = 64 << 10,
        caFile: String? = nil
    ) throws {
        try rule.validate()
        try self.init(.endpoint(path: path, directory, rule), headers, [], allow, format, maxResponseBytes, caFile)
    }

    private init(
        _ target: Target,
        _ headers: [String: String],
        _ secrets: [String],
        _ allow: [String],
        _ format: RequestFormat,
        _ maxResponseBytes: Int,
        _ caFile: String?
    ) throws {
        guard maxResponseBytes > 0 else {
            throw HTTPPluginError(.invalidLimit, "maxResponseBytes is \(maxResponseBytes): it must be at least 1")
        }
        if let caFile, !FileManager.default.isReadableFile(atPath: caFile) {
            throw HTTPPluginError(.invalidCAFile, "the file of certificate authorities '\(caFile)' cannot be read")
        }
        try format.validate()
        switch target {
        case .fixed: break
        case .payload(let path), .endpoint(let path, _, _):
            guard !path.isEmpty else { throw HTTPPluginError(.invalidPath, "the path into the payload is empty") }
            // The URL comes later. Everything else is checked now.
            _ = try HTTPDestination(
                url: "http://a.invalid",
                headers: headers,
                secrets: secrets,
                allow: allow,
                isFromOperator: false
            )
        }
        self.target = target
        self.format = format
        self.maxResponseBytes = maxResponseBytes
        self.headers = headers
        self.secrets = secrets
        self.allow = allow
        self.caFile = caFile
        // The client's threads and descriptors are created now, because they may be scarce once jobs run.
        client = try HTTPClient.shared()
    }

    /// The parsed URL; nil if it is not fixed.
    var fixedEndpoint: HTTPEndpoint? {
        if case .fixed(let destination) = target { destination.endpoint } else { nil }
    }

    /// The path of the endpoint's name in the payload; nil if the plugin does not send to endpoints.
    public var endpointPath: [String]? {
        if case .endpoint(let path, _, _) = target { path } else { nil }
    }

    /// Sends one job and derives its outcome from the answer.
    ///
    /// - Throws: `CancellationError` when the job was cancelled; its connection is closed by then.
    public func run(_ job: Job, context: JobContext) async throws -> JobOutcome {
        try Task.checkCancellation()
        let payload = Array(job.payload.utf8)
        switch target {
        case .fixed(let destination):
            return try await send(job, payload, to: destination, context)
        case .payload(let path):
            guard let url = JSONSlice(path, in: payload)?.text, !url.isEmpty else {
                return .discarded(JobFailure("http.url", "the payload has no url at \(path.jsonPathText)"))
            }
            let destination: HTTPDestination
            do {
                destination = try self.destination(url: url, headers: headers, secrets: secrets)
            } catch let error as HTTPPluginError {
                return .discarded(
                    JobFailure("http.url", "the url at \(path.jsonPathText) of the payload: \(error.message)")
                )
            }
            return try await send(job, payload, to: destination, context)
        case .endpoint(let path, let directory, let rule):
            return try await run(job, payload, endpointAt: path, directory, rule, context)
        }
    }

    /// A destination whose URL is not from the operator.
    func destination(url: String, headers: [String: String], secrets: [String]) throws -> HTTPDestination {
        try HTTPDestination(url: url, headers: headers, secrets: secrets, allow: allow, isFromOperator: false)
    }

    /// Sends one job to a destination.
    func send(
        _ job: Job,
        _ payload: [UInt8],
        to destination: HTTPDestination,
        _ context: JobContext
    ) async throws -> JobOutcome {
        let body: [UInt8]
        do {
            body = try format.body(for: payload)
        } catch {
            return .discarded(JobFailure("http.body", error.message))
        }
        let signature = destination.signature(id: job.idempotencyKey, body: body)
        let request = HTTPRequest(
            method: format.method,
            url: destination.endpoint.url,
            headers: destination.headers.lines(
                for: job,
                context: context,
                signature: signature,
                contentType: format.method.hasBody ? format.contentType : nil
            ),
            body: body,
            timeoutMilliseconds: Self.timeoutMilliseconds(within: context.remainingTime),
            maxResponseBytes: maxResponseBytes,
            policy: destination.policy,
            caFile: caFile,
            resolve: resolve
        )
        switch await client.send(request) {
        case .response(let response): return outcome(of: response, from: destination, context)
        case .failure(let failure): return outcome(of: failure, from: destination)
        case .cancelled: throw CancellationError()
        }
    }

    /// The request's timeout is a little shorter than the remaining time of the run, so that a server that does not
    /// answer is reported as unavailable rather than the job as timed out.
    static func timeoutMilliseconds(within remaining: Duration) -> Int {
        let seconds = min(remaining.inSeconds, 86_400 * 7)
        return max(1, Int((seconds - min(0.25, seconds / 10)) * 1000))
    }

    /// Where jobs are sent: the URL without the query, or the path of it or of the endpoint's name in the payload.
    public var description: String { "HTTPPlugin(\(place))" }

    /// Only where jobs are sent, because the fields hold secrets.
    public var customMirror: Mirror { Mirror(self, children: [("url", place)]) }

    private var place: String {
        switch target {
        case .fixed(let destination): destination.endpoint.display
        case .payload(let path): path.jsonPathText
        case .endpoint(let path, _, _): "endpoint \(path.jsonPathText)"
        }
    }
}
