import BreakwaterTesting
import Synchronization
import Testing

@testable import Breakwater

/// Counts the probes, and the most that ran at once.
private final class Probes: Sendable {
    private struct State {
        var running = 0
        var most = 0
        var total = 0
        var refused = 0
    }

    private let state = Mutex(State())

    var most: Int { state.withLock { $0.most } }
    var total: Int { state.withLock { $0.total } }

    func begin() {
        state.withLock { state in
            state.running += 1
            state.total += 1
            state.most = max(state.most, state.running)
        }
    }

    func end() { state.withLock { $0.running -= 1 } }

    func refuse() -> Int {
        state.withLock { state in
            state.refused += 1
            return state.refused
        }
    }
}

@Suite("A circuit breaker around a call")
struct CircuitBreakerTests {
    private struct Refused: Error {}
    private struct BadRequest: Error {}

    private let clock = ManualClock()

    private func breaker(
        concurrency: Int? = nil,
        _ configure: (inout CircuitPolicy) -> Void = { _ in },
        judge: (@Sendable (any Error) throws -> CallJudgement)? = nil
    ) throws -> CircuitBreaker {
        var policy = CircuitPolicy()
        policy.consecutiveFailures = 3
        configure(&policy)
        return try CircuitBreaker(
            name: "geocoder",
            policy: policy,
            clock: clock,
            concurrency: concurrency,
            generator: SeededGenerator(seed: testSeed),
            judge: judge
        )
    }

    private func fail(_ breaker: CircuitBreaker, with error: any Error = Refused(), times: Int = 1) async {
        for _ in 0..<times {
            _ = try? await breaker.call { throw error }
        }
    }

    @Test("hands through what the call returns and what it throws")
    func transparent() async throws {
        let breaker = try breaker()
        #expect(try await breaker.call { 42 } == 42)
        await #expect(throws: Refused.self) { try await breaker.call { throw Refused() } }
        #expect(breaker.state.calls == 2)
        #expect(breaker.state.failed == 1)
    }

    @Test("open, it makes no call, and says when the next probe may be")
    func open() async throws {
        let breaker = try breaker()
        await fail(breaker, times: 3)
        let state = breaker.state
        #expect(state.phase == .open)
        #expect(state.reason == "3 failures in a row")
        let wait = try #require(state.retryAfter)
        #expect((.seconds(15) ... .seconds(30)).contains(wait))
        let error = await #expect(throws: CircuitOpenError.self) {
            try await breaker.call { Issue.record("the call was made") }
        }
        #expect(error == CircuitOpenError(circuit: "geocoder", phase: .open, retryAfter: wait))
        clock.advance(by: wait)
        #expect(breaker.state.phase == .halfOpen)
        for _ in 0..<3 { try await breaker.call {} }
        #expect(breaker.state.phase == .closed)
    }

    @Test("does something else instead when it may not call, but not when the call itself throws")
    func fallback() async throws {
        let breaker = try breaker()
        for _ in 0..<3 {
            await #expect(throws: Refused.self) {
                try await breaker.call {
                    throw Refused()
                } fallback: { _ in
                    7
                }
            }
        }
        let value = try await breaker.call {
            Issue.record("the call was made")
            return 1
        } fallback: { refusal in
            #expect(refusal.phase == .open)
            return 7
        }
        #expect(value == 7)
    }

    @Test("exactly the configured number of probes run at once, however many tasks ask at the same moment")
    func contention() async throws {
        let breaker = try breaker {
            $0.probes = 5
            $0.successesToClose = 1000
        }
        await fail(breaker, times: 3)
        clock.advance(by: .seconds(30))

        let probes = Probes()
        let (gate, opener) = AsyncStream.makeStream(of: Void.self)
        await withTaskGroup { group in
            for _ in 0..<500 {
                group.addTask {
                    do {
                        try await breaker.call {
                            probes.begin()
                            for await _ in gate {}
                            probes.end()
                        }
                    } catch {
                        // All other calls were refused, so the probes may end.
                        if probes.refuse() == 495 { opener.finish() }
                    }
                }
            }
        }
        #expect(probes.most == 5)
        #expect(probes.total == 5)
        #expect(breaker.state.successes == 5)
        #expect(breaker.state.probes == 0)
    }

    @Test("a cancelled probe frees its place and decides nothing")
    func cancelledProbe() async throws {
        let breaker = try breaker { $0.probes = 1 }
        await fail(breaker, times: 3)
        clock.advance(by: .seconds(30))
        let (started, start) = AsyncStream.makeStream(of: Void.self)
        let task = Task { [clock] in
            try await breaker.call {
                start.yield()
                try await clock.sleep(for: .seconds(1000))
            }
        }
        for await _ in started { break }
        await #expect(throws: CircuitOpenError.self) { try await breaker.call {} }
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        #expect(breaker.state.phase == .halfOpen)
        #expect(breaker.state.successes == 0)
        for _ in 0..<3 { try await breaker.call {} }
        #expect(breaker.state.phase == .closed)
    }

    @Test("any error of a cancelled task is ignored")
    func cancelledError() async throws {
        let breaker = try breaker()
        let task = Task {
            for _ in 0..<10 {
                _ = try? await breaker.call {
                    try? await Task.sleep(for: .seconds(1000))
                    throw Refused()
                }
            }
        }
        task.cancel()
        await task.value
        #expect(breaker.state.calls == 0)
    }

    @Test("a judge decides what errors mean, and one that throws makes the call count as failed")
    func judge() async throws {
        let breaker = try breaker(
            judge: { error in
                switch error {
                case is BadRequest: .ignored
                case is CircuitOpenError: .trips()
                case is Refused: throw Refused()
                default: .failed()
                }
            })
        await fail(breaker, with: BadRequest(), times: 100)
        #expect(breaker.state.calls == 0)
        await fail(breaker, times: 2)
        #expect(breaker.state.failed == 2)
        await fail(breaker, with: BadRequest(), times: 100)
        await fail(breaker)
        #expect(breaker.state.phase == .open)
    }

    @Test("names of errors are ignored or trip as the policy says")
    func policyNames() async throws {
        let breaker = try breaker {
            $0.ignoreOn = ["http.4*"]
            $0.tripOn = ["BadRequest"]
        }
        await fail(breaker, with: JobFailure("http.404", "no such thing"), times: 10)
        #expect(breaker.state.calls == 0)
        await fail(breaker, with: BadRequest())
        #expect(breaker.state.phase == .open)
    }

    @Test("the refusal of another breaker within the call is ignored")
    func nested() async throws {
        let breaker = try breaker()
        await fail(breaker, with: CircuitOpenError(circuit: "inner", phase: .open, retryAfter: nil), times: 10)
        #expect(breaker.state.calls == 0)
    }

    @Test("Retry-After counts where the policy honours it")
    func retryAfter() async throws {
        for (honours, expected) in [(true, Duration.seconds(100)), (false, .seconds(30))] {
            let breaker = try breaker {
                $0.honoursRetryAfter = honours
            } judge: { _ in
                .trips(retryAfter: .seconds(100))
            }
            await fail(breaker)
            let wait = try #require(breaker.state.retryAfter)
            #expect(honours ? wait == expected : wait <= expected)
        }
    }

    @Test("slow calls open it")
    func slow() async throws {
        let breaker = try breaker {
            $0.slowCall = .seconds(5)
            $0.minimumCalls = 4
        }
        for _ in 0..<4 {
            try await breaker.call { clock.advance(by: .seconds(5)) }
        }
        #expect(breaker.state.phase == .open)
        #expect(breaker.state.reason == "4 of 4 calls were slow in 60 s")
    }

    @Test("after closing, it admits a growing share of its concurrency")
    func ramp() async throws {
        let breaker = try breaker(concurrency: 100) { $0.successesToClose = 1 }
        await fail(breaker, times: 3)
        clock.advance(by: .seconds(30))
        try await breaker.call {}
        #expect(breaker.state.phase == .closed)
        /// Nests calls as deep as the breaker admits them, and returns how many that were.
        func depth() async throws -> Int {
            do {
                return try await breaker.call { try await depth() + 1 }
            } catch let error as CircuitOpenError {
                #expect(error.phase == .closed)
                return 0
            }
        }
        #expect(try await depth() == 10)
        clock.advance(by: .seconds(5))
        #expect(try await depth() == 50)
        #expect(breaker.state.failed == 0)
    }

    @Test("can be forced open, closed, disabled and reset; each for a time")
    func overrides() async throws {
        let breaker = try breaker()
        breaker.force(.open, reason: "maintenance", for: .seconds(60), actor: "ann")
        #expect(breaker.state.override == .open)
        let error = await #expect(throws: CircuitOpenError.self) { try await breaker.call {} }
        #expect(error?.retryAfter == .seconds(60))
        clock.advance(by: .seconds(60))
        try await breaker.call {}

        breaker.force(.closed, reason: "we know")
        await fail(breaker, times: 100)
        #expect(breaker.state.phase == .closed)
        breaker.force(.open, reason: "without an end")
        clock.advance(by: .seconds(1_000_000))
        #expect(breaker.state.phase == .open)
        #expect(breaker.state.retryAfter == nil)
        breaker.reset(reason: "over")
        #expect(breaker.state.override == nil)
        #expect(breaker.state.calls == 0)
        try await breaker.call {}
    }

    @Test("tells all observers of each transition, in order, and their streams end with the breaker")
    func transitions() async throws {
        var watched: [AsyncStream<CircuitTransition>] = []
        do {
            let breaker = try breaker()
            watched = [breaker.transitions, breaker.transitions]
            await fail(breaker, times: 3)
            clock.advance(by: .seconds(30))
            for _ in 0..<3 { try await breaker.call {} }
            breaker.force(.disabled, reason: "r", actor: "ann")
        }
        for stream in watched {
            var seen: [CircuitTransition] = []
            for await transition in stream { seen.append(transition) }
            #expect(seen.map(\.to) == [.open, .halfOpen, .closed, .closed])
            #expect(seen.map(\.generation) == [2, 3, 4, 5])
            #expect(seen.map(\.actor) == [nil, nil, nil, "ann"])
        }
    }

    @Test("a handler that lets the refusal through has its job snoozed, unspent")
    func snoozes() {
        let refusal = CircuitOpenError(circuit: "geocoder", phase: .open, retryAfter: .seconds(12))
        #expect(refusal.outcome == .snoozed(.seconds(12)))
        #expect(CircuitOpenError(circuit: "x", phase: .halfOpen, retryAfter: nil).outcome == .snoozed(.seconds(1)))
    }
}
