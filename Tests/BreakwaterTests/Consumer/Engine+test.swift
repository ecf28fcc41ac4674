import BreakwaterTesting
import Libpq
import Logging
import Metrics

@testable import Breakwater

extension Engine {
    /// An engine for the kind `k`, without a connection.
    static func test(
        on clock: any WorkerClock,
        handler: @escaping @Sendable (Job, JobContext) async throws -> JobOutcome = { _, _ in .succeeded() }
    ) -> Engine {
        var configuration = WorkerConfiguration(
            database: ConnectionOptions("postgresql:///nowhere"),
            handlers: [HandlerRegistration(kind: "k", plugin: ClosureHandler(handler))]
        )
        configuration.lease = .seconds(40)
        return Engine(
            configuration: configuration,
            worker: 1,
            registeredAt: clock.now,
            clock: clock,
            loggers: WorkerLoggers(Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }),
            metrics: WorkerMetrics(configuration, in: NOOPMetricsHandler.instance),
            health: WorkerHealth(),
            tracer: nil
        )
    }
}
