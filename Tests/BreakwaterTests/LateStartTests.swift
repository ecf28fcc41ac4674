import BreakwaterTesting
import Libpq
import Logging
import Metrics
import Testing

@testable import Breakwater

/// A process that was stopped, or a machine that was asleep, goes on in the middle of what it was doing.
@Suite("A worker that goes on after its lease")
struct LateStartTests {
    private let ran = Notes()

    private func engine(registeredAt: MonotonicClock.Instant, jobs: ClosedRange<Int64>) -> Engine {
        let ran = ran
        let handler = ClosureHandler { job, _ in
            ran.add("\(job.id)")
            return .succeeded()
        }
        var configuration = WorkerConfiguration(
            database: ConnectionOptions("postgresql:///nowhere"),
            handlers: [HandlerRegistration(kind: "k", plugin: handler)]
        )
        configuration.lease = .seconds(40)
        let engine = Engine(
            configuration: configuration,
            worker: 1,
            registeredAt: registeredAt,
            loggers: WorkerLoggers(Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }),
            metrics: WorkerMetrics(configuration, in: NOOPMetricsHandler.instance),
            health: WorkerHealth(),
            tracer: nil
        )
        let claimed = jobs.map { id in
            var job = Job(id: id, kind: "k")
            job.lease = 1
            return ClaimedJob(job: job, position: id)
        }
        engine.withState { $0.dispatcher.accept(claimed, askedAt: registeredAt) }
        return engine
    }

    @Test("starts nothing of what it had claimed before")
    func claimed() {
        let engine = engine(registeredAt: .now - .seconds(31), jobs: 1...3)
        engine.startJobs()
        #expect(engine.withState { $0.dispatcher.running.isEmpty })
    }

    @Test("hands back unrun what it had started and had not begun, and what waits behind that")
    func started() async throws {
        let registered = MonotonicClock.Instant.now - .seconds(31)
        let engine = engine(registeredAt: registered, jobs: 1...3)
        let next = engine.withState { $0.dispatcher.nextStartable(at: registered) }
        await engine.run(Engine.Start(job: try #require(next), time: registered))
        #expect(ran.all.isEmpty)
        let (runs, _) = engine.withState { $0.dispatcher.takeFinished() }
        #expect(runs.map(\.id) == [1])
        #expect(runs.map(\.ending.className) == ["released"])
        engine.checkLease(at: .now)
        #expect(engine.withState { $0.dispatcher.takeFinished().runs.map(\.id).sorted() } == [2, 3])
        #expect(ran.all.isEmpty)
    }

    @Test("runs what it had started in time")
    func inTime() async throws {
        let registered = MonotonicClock.Instant.now
        let engine = engine(registeredAt: registered, jobs: 1...1)
        let next = engine.withState { $0.dispatcher.nextStartable(at: registered) }
        await engine.run(Engine.Start(job: try #require(next), time: registered))
        #expect(ran.all == ["1"])
    }
}
