import BreakwaterTesting
import Libpq
import Logging
import Metrics
import Testing

@testable import Breakwater

/// The task that gives the consumer its ticks.
@Suite("Keeping time")
struct KeepTimeTests {
    private func engine(on clock: any WorkerClock) -> Engine {
        let configuration = WorkerConfiguration(
            database: ConnectionOptions("postgresql:///nowhere"),
            handlers: [HandlerRegistration(kind: "k", plugin: ClosureHandler { _, _ in .succeeded() })]
        )
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

    @Test(
        "ends with the consumer, and does not keep a thread busy until the worker's other tasks end",
        .timeLimit(.minutes(20))
    )
    func endsWithConsumer() async {
        let engine = engine(on: MonotonicClock())
        engine.handle(.drain)
        #expect(engine.hasStopped)
        await engine.keepTime()
    }
}
