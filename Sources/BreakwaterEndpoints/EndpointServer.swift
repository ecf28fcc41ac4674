public import Breakwater
import Foundation
import Hummingbird
import HummingbirdCore
public import Logging
import NIOCore
import NIOPosix
public import ServiceLifecycle
import Synchronization

/// Serves what machines ask of a worker: `/metrics`, `/livez`, `/readyz`.
///
/// Every answer comes from memory: none waits for the database, or for a lock that a loop holds for long. It changes
/// nothing. `/livez` and `/readyz` give generic reasons, and the log has the details; `/metrics` names kinds and
/// queues, so let the server listen only where its clients may know them.
///
/// Its connections are limited in number and in time, and a new one is always taken: clients that send nothing, or not
/// all of a request, give way to a health check.
///
/// As a `Service` it should shut down after the worker, so that a draining worker can still be asked: put it before the
/// worker in the list of a `ServiceGroup`.
public struct EndpointServer: Service {
    /// Where it listens.
    public var address: ListenAddress
    /// What it answers.
    public let endpoints: [Endpoint]
    /// One in sixteen of the process's descriptors, 128 at most. An answer is a few kilobytes from memory.
    var limits: ConnectionLimits
    private let logger: Logger
    private let onRunning: @Sendable (Int) -> Void

    /// - Parameters:
    ///   - address: Where it listens.
    ///   - health: The worker's health.
    ///   - metrics: Returns the metrics in Prometheus' text form. Called once a scrape.
    ///   - logger: Where it logs.
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

/// Says in the log why the worker is not ready, once for each change, because the answer itself does not say it.
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

/// The endpoints cannot be served.
public struct EndpointError: Error, Sendable, CustomStringConvertible {
    /// Where it was to listen.
    public var address: ListenAddress
    /// Why it cannot.
    public var reason: String

    /// What went wrong, for people.
    public var description: String { "cannot listen on \(address): \(reason.lowercased())" }
}
