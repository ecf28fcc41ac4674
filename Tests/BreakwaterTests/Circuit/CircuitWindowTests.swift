import Testing

@testable import Breakwater

@Suite("A circuit's window")
struct CircuitWindowTests {
    /// One call, as a plain recount keeps it.
    private struct Call {
        var second: Int64
        var isFailed: Bool
        var isSlow: Bool
    }

    private func counts(_ calls: some Sequence<Call>) -> CircuitWindow.Counts {
        var counts = CircuitWindow.Counts()
        for call in calls {
            counts.calls += 1
            if call.isFailed { counts.failed += 1 }
            if call.isSlow { counts.slow += 1 }
        }
        return counts
    }

    @Test(
        "agrees with a plain recount on random calls",
        arguments: [
            .time(.seconds(1)), .time(.seconds(10)), .time(.seconds(2.5)), .time(.seconds(600)), .calls(1), .calls(7),
            .calls(100),
        ] as [CircuitPolicy.Window]
    )
    func agreesWithRecount(extent: CircuitPolicy.Window) {
        var generator = SeededGenerator(seed: testSeed)
        var window = CircuitWindow(extent)
        var all: [Call] = []
        var streak = 0
        var now = Duration.zero
        for step in 0..<1000 {
            now += .milliseconds(
                Int.random(in: 0...100, using: &generator) == 0 ? 30_000 : .random(in: 0...400, using: &generator)
            )
            var calls = CircuitCalls()
            calls.succeeded = .random(in: 0...3, using: &generator)
            calls.failed = calls.succeeded == 0 ? 1 : .random(in: 0...2, using: &generator)
            calls.slowSucceeded = .random(in: 0...calls.succeeded, using: &generator)
            calls.slowFailed = .random(in: 0...calls.failed, using: &generator)
            window.add(calls, at: now)

            let second = now.components.seconds
            for index in 0..<calls.failed {
                all.append(Call(second: second, isFailed: true, isSlow: index < calls.slowFailed))
                streak += 1
            }
            for index in 0..<calls.succeeded {
                let isSlow = index >= calls.succeeded - calls.slowSucceeded
                all.append(Call(second: second, isFailed: false, isSlow: isSlow))
                streak = 0
            }
            let expected =
                switch extent {
                case .time(let length): counts(all.lazy.filter { .seconds($0.second) > now - length })
                case .calls(let size): counts(all.suffix(size))
                }
            #expect(window.counts(at: now) == expected, "step \(step), seed \(testSeed)")
            #expect(window.streak == streak, "step \(step), seed \(testSeed)")
            if window.counts(at: now) != expected { return }
        }
    }

    @Test("by time, forgets a second's calls together")
    func forgetsBySlot() {
        var window = CircuitWindow(.time(.seconds(10)))
        window.add(.failure, at: .seconds(100))
        window.add(.failure, at: .seconds(100.9))
        window.add(.success, at: .seconds(101))
        #expect(window.counts(at: .seconds(109.999)).calls == 3)
        #expect(window.counts(at: .seconds(110)).calls == 1)
        #expect(window.counts(at: .seconds(111)).calls == 0)
    }

    @Test("by count, forgets the oldest call")
    func forgetsOldest() {
        var window = CircuitWindow(.calls(3))
        window.add(.failure, at: .zero)
        for _ in 0..<2 { window.add(.success, at: .zero) }
        #expect(window.counts(at: .seconds(1_000_000)).failed == 1)
        window.add(.success, at: .zero)
        #expect(window.counts(at: .zero) == CircuitWindow.Counts(calls: 3))
    }
}
