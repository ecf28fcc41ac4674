import BreakwaterTesting
import Testing

@testable import Breakwater

/// A process that was stopped, or a machine that was asleep, continues in the middle of its work.
@Suite("A worker that continues after its lease")
struct LateStartTests {
    private let ran = Notes()

    private func engine(on clock: ManualWorkerClock) -> Engine {
        let ran = ran
        return Engine.test(on: clock) { job, _ in
            ran.add("\(job.id)")
            return .succeeded()
        }
    }

    /// Lets the engine claim three jobs. The claim is not durable yet.
    private func claim(with engine: Engine) throws {
        engine.handle(.connected)
        let reconcile = try #require(engine.dequeueRequest())
        engine.handle(.answered(reconcile.id, .reconciled(jobs: 0)))
        let exchange = try #require(engine.dequeueRequest())
        let jobs = (Int64(1)...3).map { id in
            var job = Job(id: id, kind: "k")
            job.lease = 1
            return ClaimedJob(job: job, position: id)
        }
        engine.handle(.answered(exchange.id, .claimed(jobs)))
    }

    private func makeDurable(_ engine: Engine) throws {
        let id = try #require(engine.read { $0.inFlight.first?.request.id })
        engine.handle(.answered(id, .settled()))
    }

    @Test("starts none of the jobs that it had claimed before, and hands them back")
    func claimed() throws {
        let clock = ManualWorkerClock()
        let engine = engine(on: clock)
        try claim(with: engine)
        clock.advance(by: .seconds(31))
        try makeDurable(engine)
        #expect(engine.read { $0.held.runningCount } == 0)
        guard case .exchange(_, let settle?)? = engine.dequeueRequest()?.work else {
            Issue.record("nothing is settled")
            return
        }
        #expect(settle.runs.map(\.ending.outcomeClass) == [.released, .released, .released])
        #expect(ran.all.isEmpty)
    }

    @Test("runs the jobs that it had started in time")
    func inTime() async throws {
        let clock = ManualWorkerClock()
        let engine = engine(on: clock)
        try claim(with: engine)
        try makeDurable(engine)
        try await waitUntil("all three ran") { ran.all.count == 3 }
    }
}
