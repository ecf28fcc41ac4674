public import Breakwater
import Foundation
import Hummingbird
import HummingbirdCore
public import Logging
import NIOCore
import NIOPosix
public import ServiceLifecycle
import Synchronization

/// Serves the endpoints of a worker for monitoring: `/metrics`, `/livez`, `/readyz`.
///
/// Every answer comes from memory. None waits for the database, or for a lock that a loop holds for long. No request
/// changes anything. `/livez` and `/readyz` give generic reasons, and the log has the details. `/metrics` names kinds
/// and queues, so the server should listen only where its clients may know them.
///
/// Its connections are limited in number and in time, and a new one is always accepted. Connections that send nothing,
/// or only a part of a request, are closed to make room for a health check.
///
/// As a `Service` it should shut down after the worker, so that a draining worker can still be monitored. To achieve
/// this, put it before the worker in the list of a `ServiceGroup`.
public struct EndpointServer: Service {
    /// The address to listen on.
    public var address: ListenAddress
    /// The endpoints.
    public let endpoints: [Endpoint]
    /// The limits of connections: a sixteenth of the process's descriptors, at most 128. An answer is a few kilobytes
    /// from memory.
    var limits: ConnectionLimits
    private let logger: Logger
    private let onRunning: @Sendable (Int) -> Void

    /// - Parameters:
    ///   - address: The address to listen on.
    ///   - health: The worker's health.
    ///   - metrics: Returns the metrics in Prometheus's text format. Called once for each scrape.
    ///   - logger: The logger.
    ///   - onRunning: Receives the port once the server listens. Defaults to nothing.
    public init(
        address: ListenAddress,
        health: WorkerHealth,
        metrics: @escaping @Sendable () -> String,
        logger: Logger,
        onRunning: @escaping @Sendable (Int) -> Void = { _ in }
    ) {
        self.address = address
        self.logger = logger
        self.onRunning = onRunning
        let most = ConnectionLimits.share(oneOf: 16, atMost: 128)
        limits = ConnectionLimits(most: most, mostOfClient: max(8, most / 2), answerTime: .seconds(10))
        let log = ReadinessLog(logger: logger)
        endpoints = [
            Endpoint(path: "/metrics", purpose: "metrics in Prometheus' text form") {
                Endpoint.Answer(isGood: true, type: "text/plain; version=0.0.4; charset=utf-8", text: metrics())
            },
            Endpoint(
                path: "/livez",
                purpose: "200 while the worker's loops turn, with or without the database, else 503"
            ) {
                Endpoint.Answer(health.liveness())
            },
            Endpoint(
                path: "/readyz",
                purpose: "200 while it is connected, its schema is right and it does not drain, else 503"
            ) {
                let answer = health.readiness()
                log.record(answer)
                return Endpoint.Answer(answer)
            },
        ]
    }

    /// Serves until shutdown.
    ///
    /// - Throws: ``EndpointError`` when the server cannot listen.
    public func run() async throws {
        let router = Router()
        for endpoint in endpoints {
            router.get(RouterPath(endpoint.path)) { _, _ in Response(endpoint.answer()) }
        }
        let overview = endpoints.map { "\($0.path)  \($0.purpose)\n" }.joined()
        router.get("/") { _, _ in Response(Endpoint.Answer(isGood: true, text: overview)) }
        var quiet = logger
        // Hummingbird's informational messages are suppressed. Its errors are thrown.
        quiet.logLevel = max(.warning, logger.logLevel)
        let (address, logger, onRunning) = (address, logger, onRunning)
        let limits = limits
        let application = Application(
            router: router,
            server: .http1(limits: limits),
            configuration: ApplicationConfiguration(
                address: .hostname(address.host, port: address.port),
                backlog: ConnectionLimits.backlog,
                availableConnectionsDelegate: limits.backstop
            ),
            onServerRunning: { channel in
                let port = channel.localAddress?.port ?? address.port
                logger.notice("serving metrics and health", metadata: ["address": "\(address.host):\(port)"])
                onRunning(port)
            },
            logger: quiet
        )
        do {
            try await application.run()
        } catch let error as IOError {
            throw EndpointError(address: address, reason: String(cString: strerror(error.errnoCode)))
        } catch let error as NIOConnectionError {
            throw EndpointError(address: address, reason: "\(error)")
        }
    }
}

/// Logs why the worker is not ready, once for each change, because the answer itself does not say this.
private final class ReadinessLog: Sendable {
    private let logger: Logger
    private let last = Mutex<[String]>([])

    init(logger: Logger) { self.logger = logger }

    func record(_ answer: WorkerHealth.Answer) {
        let isNews = last.withLock { last in
            defer { last = answer.reasons }
            return last != answer.reasons
        }
        guard isNews else { return }
        if answer.isGood {
            logger.info("the worker is ready")
        } else {
            logger.info(
                "the worker is not ready",
                metadata: ["reasons": .array(answer.reasons.map { .string($0) })]
            )
        }
    }
}

extension Endpoint.Answer {
    init(_ answer: WorkerHealth.Answer) {
        self.init(isGood: answer.isGood, text: answer.isGood ? "ok\n" : answer.publicReasons.map { $0 + "\n" }.joined())
    }
}

extension Response {
    fileprivate init(_ answer: Endpoint.Answer) {
        self.init(
            status: answer.isGood ? .ok : .serviceUnavailable,
            headers: [.contentType: answer.type, .cacheControl: "no-store"],
            body: ResponseBody(byteBuffer: ByteBuffer(string: answer.text))
        )
    }
}

/// The error that the endpoints cannot be served.
public struct EndpointError: Error, Sendable, CustomStringConvertible {
    /// The address to listen on.
    public var address: ListenAddress
    /// The reason.
    public var reason: String

    /// A description for people.
    public var description: String { "cannot listen on \(address): \(reason.lowercased())" }
}
