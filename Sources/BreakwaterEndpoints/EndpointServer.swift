public import Breakwater
import Foundation
import Hummingbird
import HummingbirdCore
public import Logging
import NIOCore
import NIOPosix
public import ServiceLifecycle

/// Serves what machines ask of a worker: `/metrics`, `/livez`, `/readyz`.
///
/// Every answer comes from memory: none waits for the database, or for a lock that a loop holds for long. It says nothing
/// that is secret, and changes nothing; but kinds and queues are named in it, so let it listen where only those reach it
/// who may know them.
///
/// As a `Service` it should shut down after the worker, so that a draining worker can still be asked: put it before the
/// worker in the list of a `ServiceGroup`.
public struct EndpointServer: Service {
    /// Where it listens.
    public var address: ListenAddress
    /// What it answers.
    public let endpoints: [Endpoint]
    private let logger: Logger
    private let onRunning: @Sendable (Int) -> Void

    /// - Parameters:
    ///   - address: Where it listens.
    ///   - health: The worker's health.
    ///   - metrics: Tells the metrics in Prometheus' text form. Called once a scrape.
    ///   - logger: Where it logs.
    ///   - onRunning: Told the port once it listens. Defaults to nothing.
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
                Endpoint.Answer(health.readiness())
            },
        ]
    }

    /// Serves until shutdown.
    ///
    /// - Throws: ``EndpointError`` when it cannot listen.
    public func run() async throws {
        let router = Router()
        for endpoint in endpoints {
            router.get(RouterPath(endpoint.path)) { _, _ in Response(endpoint.answer()) }
        }
        let overview = endpoints.map { "\($0.path)  \($0.purpose)\n" }.joined()
        router.get("/") { _, _ in Response(Endpoint.Answer(isGood: true, text: overview)) }
        var quiet = logger
        // What Hummingbird says of itself; whatever goes wrong is thrown.
        quiet.logLevel = max(.warning, logger.logLevel)
        let (address, logger, onRunning) = (address, logger, onRunning)
        let application = Application(
            router: router,
            server: .http1(configuration: .init(idleTimeout: .seconds(60))),
            configuration: ApplicationConfiguration(
                address: .hostname(address.host, port: address.port),
                availableConnectionsDelegate: MaximumAvailableConnections(Self.mostConnections)
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

    /// More connections than these wait until one closes.
    private static let mostConnections = 100
}

extension Endpoint.Answer {
    init(_ answer: WorkerHealth.Answer) {
        self.init(isGood: answer.isGood, text: answer.isGood ? "ok\n" : answer.reasons.map { $0 + "\n" }.joined())
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

/// The endpoints cannot be served.
public struct EndpointError: Error, Sendable, CustomStringConvertible {
    /// Where it was to listen.
    public var address: ListenAddress
    /// Why it cannot.
    public var reason: String

    /// What went wrong, for people.
    public var description: String { "cannot listen on \(address): \(reason.lowercased())" }
}
