import Testing

@testable import Breakwater

/// The task that gives the consumer its ticks.
@Suite("Keeping time")
struct KeepTimeTests {
    @Test(
        "ends with the consumer, and does not keep a thread busy until the worker's other tasks end",
        .timeLimit(.minutes(20))
    )
    func endsWithConsumer() async {
        let engine = Engine.test(on: MonotonicClock())
        engine.handle(.drain)
        #expect(engine.hasStopped)
        await engine.runTimer()
    }
}
