import BreakwaterEndpoints
import HTTPTypes
import Hummingbird
public import Logging
import NIOCore
public import ServiceLifecycle

/// The dashboard: web pages that are rendered on the server and served over HTTP.
///
/// It listens on loopback unless configured otherwise. It lets in only users with a password, and users whom a trusted
/// reverse proxy names. The dashboard has no TLS. For users on other machines, put a proxy with TLS in front of it.
public struct Dashboard: Service {
    private let configuration: DashboardConfiguration
    private let site: Site
    private let logger: Logger
    private let onListening: @Sendable (_ port: Int) async -> Void

    /// - Parameters:
    ///   - configuration: The dashboard's settings, such as its address and its users.
    ///   - logger: Receives logins, refusals and failures.
    ///   - onListening: Called with the port when the dashboard listens.
    /// - Throws: ``DashboardError`` for invalid settings.
    public init(
        _ configuration: DashboardConfiguration,
        logger: Logger,
        onListening: @escaping @Sendable (_ port: Int) async -> Void = { _ in }
    ) throws(DashboardError) {
        try configuration.validate()
        self.configuration = configuration
        self.logger = logger
        self.onListening = onListening
        site = Site(configuration, logger: logger)
    }

    /// Serves until the service is stopped.
    ///
    /// - Throws: ``DashboardError`` when the address cannot be listened on.
    public func run() async throws {
        let address = "\(configuration.host):\(configuration.port)"
        if !["127.0.0.1", "::1", "localhost"].contains(configuration.host), !configuration.securesCookies {
            logger.warning(
                "the dashboard listens beyond this machine without TLS: passwords travel in the clear; put a proxy with TLS in front and set secure_cookies",
                metadata: ["address": "\(address)"]
            )
        }
        var quiet = logger
        quiet.logLevel = max(logger.logLevel, .warning)
        let (site, logger, onListening) = (site, logger, onListening)
        let responder = CallbackResponder<PeerContext> { request, context in
            await Self.respond(site, request, peer: context.peer)
        }
        let limits = limits
        let server = Application(
            responder: responder,
            server: .http1(limits: limits),
            configuration: ApplicationConfiguration(
                address: .hostname(configuration.host, port: configuration.port),
                backlog: ConnectionLimits.backlog,
                availableConnectionsDelegate: limits.backstop
            ),
            services: [site.runs],
            onServerRunning: { channel in
                let port = channel.localAddress?.port ?? 0
                logger.notice("the dashboard listens", metadata: ["address": "\(address)", "port": "\(port)"])
                await onListening(port)
            },
            logger: quiet
        )
        do {
            try await server.run()
            await site.database.close()
        } catch let error as IOError {
            await site.database.close()
            throw DashboardError(
                .cannotListen,
                "the dashboard cannot listen on \(address): \(error.localizedDescription)"
            )
        } catch {
            await site.database.close()
            throw error
        }
    }

    /// Limits connections to an eighth of the process's descriptors, at most 256. One address that is no trusted proxy
    /// may have a quarter of these.
    private var limits: ConnectionLimits {
        let most = ConnectionLimits.share(oneOf: 8, atMost: 256)
        var limits = ConnectionLimits(most: most, mostOfClient: max(8, most / 4), answerTime: .seconds(120))
        let proxies = configuration.trustedProxies + (configuration.proxy?.peers ?? [])
        limits.exempt = proxies.compactMap(AddressRange.init)
        return limits
    }

    /// The largest form that is accepted, in bytes. No form of the dashboard sends more.
    private static let largestForm = 256 * 1024
    /// The largest form that is accepted before login, in bytes. A login sends less, and no other form is needed before
    /// it.
    private static let largestFormOfStranger = 16 * 1024

    private static func respond(_ site: Site, _ request: Request, peer: String) async -> Response {
        var headers: [String: [String]] = [:]
        for field in request.headers { headers[field.name.canonicalName, default: []].append(field.value) }
        if let host = request.head.authority { headers["host"] = [host] }
        let isHead = request.method == .head
        guard let method = isHead ? .get : WebRequest.Method(rawValue: request.method.rawValue),
            let path = FormValues.decoded(request.uri.path.replacing("+", with: "%2B"))
        else {
            return Response(status: .badRequest)
        }
        var web = WebRequest(method: method, path: path, headers: headers, peer: peer)
        web.query = FormValues(request.uri.query ?? "")
        if method == .post {
            let type = headers["content-type"]?.first ?? ""
            guard type.lowercased().hasPrefix("application/x-www-form-urlencoded") else {
                return Response(status: .unsupportedMediaType)
            }
            let largest = site.gate.viewer(of: web) == nil ? largestFormOfStranger : largestForm
            guard let body = try? await request.body.collect(upTo: largest) else {
                return Response(status: .contentTooLarge)
            }
            web.form = FormValues(String(buffer: body))
        }
        let answer = await site.answer(web)
        var response = Response(
            status: .init(code: answer.status),
            body: isHead ? .init() : .init(byteBuffer: ByteBuffer(bytes: answer.body))
        )
        for (name, value) in answer.headers {
            if let name = HTTPField.Name(name) { response.headers.append(HTTPField(name: name, value: value)) }
        }
        return response
    }
}

/// A request context with the address of the peer.
private struct PeerContext: RequestContext {
    var coreContext: CoreRequestContextStorage
    /// The peer's address; empty when it is unknown.
    var peer: String

    init(source: ApplicationRequestContextSource) {
        coreContext = .init(source: source)
        peer = source.channel.remoteAddress?.ipAddress ?? ""
    }
}
