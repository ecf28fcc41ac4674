import Testing

@testable import Breakwater

/// When the consumer gathers ended runs for a larger exchange.
@Suite("A consumer that gathers")
struct GatheringTests {
    /// A consumer whose last exchange settled nineteen runs. Twenty are running, and twenty jobs wait.
    private func busy() -> (bench: ConsumerBench, running: [HeldJobs.Start]) {
        var bench = ConsumerBench.connected(concurrency: 20)
        // The first of these runs to end is settled alone.
        let running = bench.end(bench.start(1...60)).starts
        while let first = bench.consumer.inFlight.first {
            bench.answer(bench.inFlightClaim == nil || first.claimed != nil ? .settled() : .claimed([]))
        }
        bench.consumer.isExhausted = false
        return (bench, running)
    }

    @Test("after a large exchange it gathers the runs that end, as long as jobs wait for their slots")
    func gathers() throws {
        var (bench, running) = busy()
        let early = bench.end(Array(running[..<5]))
        #expect(early.settle == nil)
        #expect(early.starts.count == 5)
        #expect(bench.consumer.inFlight.isEmpty)
        bench.now = bench.now + Consumer.gatheringTime
        #expect(bench.handle(.tick).settle?.runs.count == 5)
    }

    @Test("a run is settled at once if it failed, if rules hold jobs back, and if nothing is left for its slot")
    func doesNotGather() throws {
        var (bench, running) = busy()
        #expect(bench.end([running[0]], .failedCall).settle?.runs.count == 1)

        (bench, running) = busy()
        bench.consumer.heldBack = ["k": bench.now + .seconds(1)]
        #expect(bench.end([running[0]]).settle?.runs.count == 1)

        (bench, running) = busy()
        bench.consumer.isExhausted = true
        #expect(bench.end([running[0]]).settle?.runs.count == 1)
    }
}
