import Breakwater
import BreakwaterEndpoints
import BreakwaterMetrics
import BreakwaterTesting
import Logging
import Metrics
import ServiceLifecycle
import Synchronization

/// Runs a worker with its endpoints and the fleet's metrics during the body, as the command does.
///
/// - Parameter body: Receives the endpoints' port.
func withEndpoints<Result: Sendable>(
    _ configuration: WorkerConfiguration,
    _ registry: MetricsRegistry,
    _ body: @escaping @Sendable (Int) async throws -> Result
) async throws -> Result {
    let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    let worker = Worker(configuration: configuration, logger: silent, metrics: registry)
    let (ports, continuation) = AsyncStream.makeStream(of: Int.self)
    let server = EndpointServer(
        address: ListenAddress(host: "127.0.0.1", port: 0),
        health: worker.health,
        metrics: registry.text,
        logger: silent,
        onRunning: { continuation.yield($0) }
    )
    let fleet = FleetMetrics(
        database: configuration.database,
        interval: .milliseconds(200),
        maxAge: .zero,
        logger: silent,
        metrics: registry
    )
    let group = ServiceGroup(services: [server, fleet, worker], logger: silent)
    return try await withThrowingTaskGroup(of: Result?.self) { tasks in
        tasks.addTask {
            try await group.run()
            return nil
        }
        tasks.addTask {
            guard let port = await ports.first(where: { _ in true }) else { throw CancellationError() }
            return try await body(port)
        }
        let first = try await tasks.next() ?? nil
        await group.triggerGracefulShutdown()
        let second = try await tasks.next() ?? nil
        guard let result = first ?? second else { throw CancellationError() }
        return result
    }
}
