import BreakwaterTesting
import Testing

@testable import Breakwater

@Suite("An event")
struct AsyncEventTests {
    @Test("raised before the wait, lets it through at once, and only once")
    func raisedBefore() async {
        let event = AsyncEvent()
        event.raise()
        event.raise()
        await event.wait()
        let passed = Notes()
        let waiter = Task {
            await event.wait()
            passed.add("passed")
        }
        for _ in 0..<100 { await Task.yield() }
        #expect(passed.all.isEmpty)
        event.raise()
        await waiter.value
        #expect(passed.all == ["passed"])
    }

    @Test("lets a cancelled task go on, before and during its wait")
    func cancelled() async {
        let event = AsyncEvent()
        let waiter = Task { await event.wait() }
        waiter.cancel()
        await waiter.value
        let late = Task {
            while !Task.isCancelled { await Task.yield() }
            await event.wait()
        }
        late.cancel()
        await late.value
    }

    @Test("loses no raise among many")
    func hammered() async throws {
        let event = AsyncEvent()
        let work = Notes()
        let rounds = 2000
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                for round in 0..<rounds {
                    work.add("\(round)")
                    event.raise()
                    if round % 7 == 0 { await Task.yield() }
                }
            }
            group.addTask {
                while work.all.count < rounds { await event.wait() }
            }
            try await group.waitForAll()
        }
        #expect(work.all.count == rounds)
    }

    @Test("ends a wait at its deadline, and before it when it is raised")
    func deadline() async {
        let clock = ManualWorkerClock()
        let event = AsyncEvent()
        let passed = Notes()
        let waiter = Task {
            await event.wait(until: clock.now + .seconds(5), on: clock)
            passed.add("passed")
        }
        while passed.all.isEmpty {
            clock.advance(by: .seconds(1))
            await Task.yield()
        }
        await waiter.value
        let late = Task { await event.wait(until: clock.now + .seconds(5), on: clock) }
        event.raise()
        // The sleep of the wait that has ended goes on until its deadline.
        let mover = Task {
            while !Task.isCancelled {
                clock.advance(by: .seconds(1))
                await Task.yield()
            }
        }
        await late.value
        mover.cancel()
    }
}
