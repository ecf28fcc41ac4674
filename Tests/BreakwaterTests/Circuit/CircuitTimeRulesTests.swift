import Testing

@testable import Breakwater

@Suite("A circuit's rules: open time")
struct CircuitOpenTimeTests {
    @Test("grows with each re-opening within its jitter, is capped, and is back to its base after a close")
    func grows() throws {
        var circuit = DrivenCircuit { $0.successesToClose = 1 }
        for _ in 0..<3 {
            circuit.run(.failure, times: 10)
            let openedAt = circuit.now
            for seconds in [30.0, 60, 120, 240, 480, 600, 600] {
                let openTime = try #require(circuit.openTime)
                #expect((.seconds(seconds / 2) ... .seconds(seconds)).contains(openTime))
                circuit.wait(openTime)
                #expect(circuit.phase == .halfOpen)
                circuit.run(.failure)
            }
            circuit.wait(.seconds(600))
            circuit.run(.success)
            #expect(circuit.phase == .closed)
            // If the circuit is closed for as long as it was open, its open times start over.
            circuit.wait(circuit.now - openedAt)
        }
        // After a relapse, the open times continue to grow.
        circuit.run(.failure, times: 10)
        circuit.wait(try #require(circuit.openTime))
        circuit.run(.success)
        for seconds in [60.0, 120] {
            circuit.run(.failure, times: 10)
            let openTime = try #require(circuit.openTime)
            #expect((.seconds(seconds / 2) ... .seconds(seconds)).contains(openTime))
            circuit.wait(openTime)
            circuit.run(.success)
            #expect(circuit.phase == .closed)
        }
    }

    @Test("stays between half and all of it, and reaches both, however often it re-opened")
    func bounds() {
        var generator = SeededGenerator(seed: testSeed)
        var policy = CircuitPolicy()
        for factor in [1, 1.01, 2, 1000] {
            policy.openFactor = factor
            for reopened in [0, 1, 5, 60, 61, 1000, 100_000, Int(Int32.max), Int.max] {
                let longest = policy.longestOpenTime(reopened: reopened)
                #expect(longest <= policy.openCap && longest >= policy.openFor)
                let times = (0..<200).map { _ in policy.openTime(reopened: reopened, using: &generator) }
                #expect(times.allSatisfy { $0 >= longest / 2 && $0 <= longest }, "seed \(testSeed)")
                #expect(
                    times.min().map { $0 < longest * 0.6 } == true && times.max().map { $0 > longest * 0.9 } == true
                )
            }
        }
        policy.openFactor = 1.01
        #expect(policy.longestOpenTime(reopened: 400) == policy.openCap)
    }

    @Test("the count of re-openings does not overflow")
    func overflow() {
        var circuit = DrivenCircuit()
        circuit.circuit.reopened = Int(Int32.max) - 1
        circuit.becomeHalfOpen()
        circuit.circuit.reopened = Int(Int32.max) - 1
        for _ in 0..<3 {
            circuit.run(.failure)
            circuit.wait(.seconds(600))
        }
        #expect(circuit.circuit.reopened == Int(Int32.max))
    }

    @Test(
        "is at least the dependency's Retry-After, up to the cap",
        arguments: [(1.0, 15.0...30.0), (100, 100...100), (1e9, 600...600), (0, 15...30)]
    )
    func retryAfter(seconds: Double, expected: ClosedRange<Double>) throws {
        var circuit = DrivenCircuit()
        circuit.run(CircuitCalls(failed: 1, trip: "http.503", retryAfter: .seconds(seconds)))
        #expect(expected.contains(try #require(circuit.openTime).inSeconds))
    }
}

@Suite("A circuit's rules: overrides")
struct CircuitOverrideTests {
    private let failures = CircuitCalls(failed: 100, trip: "test")

    @Test("held open: nothing runs, and no time opens it")
    func open() {
        var circuit = DrivenCircuit()
        circuit.circuit.override(.open, reason: "r", actor: "ann", at: circuit.now, using: &circuit.generator)
        circuit.wait(.seconds(1_000_000))
        #expect(circuit.phase == .open)
        #expect(circuit.admit().isEmpty)
    }

    @Test("a transition by hand cancels the pending automatic one")
    func cancelsPending() {
        var circuit = DrivenCircuit()
        circuit.run(.failure, times: 10)
        circuit.circuit.override(.open, reason: "r", actor: "ann", at: circuit.now, using: &circuit.generator)
        circuit.wait(.seconds(1_000_000))
        #expect(circuit.phase == .open)
        circuit.circuit.override(.closed, reason: "r", actor: "ann", at: circuit.now, using: &circuit.generator)
        #expect(circuit.phase == .closed)
    }

    @Test("held closed or disabled: everything runs", arguments: [CircuitOverride.closed, .disabled, .metricsOnly])
    func notOpening(override: CircuitOverride) {
        var circuit = DrivenCircuit()
        circuit.circuit.override(override, reason: "r", actor: "ann", at: circuit.now, using: &circuit.generator)
        circuit.run(failures, times: 100)
        #expect(circuit.phase == .closed)
        #expect(circuit.admit(1000, concurrency: 1000).count == 1000)
        #expect(circuit.circuit.window.counts(at: circuit.now).calls == (override == .disabled ? 0 : 10_000))
    }

    @Test("metrics-only says once in a generation that it would have opened")
    func metricsOnly() {
        var circuit = DrivenCircuit()
        circuit.circuit.override(.metricsOnly, reason: "r", actor: "ann", at: circuit.now, using: &circuit.generator)
        _ = circuit.circuit.drainTransitions()
        circuit.run(.failure, times: 100)
        let said = circuit.circuit.drainTransitions()
        #expect(said.map(\.reason) == ["would have opened: 10 failures in a row"])
        #expect(said.first?.generation == circuit.circuit.generation)
    }

    @Test("each ends on request, closed and with nothing counted", arguments: CircuitOverride.allCases)
    func expires(override: CircuitOverride) {
        var circuit = DrivenCircuit()
        circuit.run(.failure, times: 9)
        circuit.circuit.override(
            override,
            reason: "r",
            actor: "ann",
            until: circuit.now + .seconds(60),
            at: circuit.now,
            using: &circuit.generator
        )
        circuit.run(.failure, times: 9)
        circuit.wait(.seconds(59))
        #expect(circuit.circuit.hold?.override == override)
        circuit.wait(.seconds(1))
        #expect(circuit.circuit.hold == nil)
        #expect(circuit.phase == .closed)
        #expect(circuit.circuit.window.counts(at: circuit.now) == CircuitWindow.Counts())
        circuit.run(.failure, times: 9)
        #expect(circuit.phase == .closed)
        circuit.run(.failure)
        #expect(circuit.phase == .open)
    }

    @Test("reset clears the window, from every state")
    func reset() {
        for steps in 0...2 {
            var circuit = DrivenCircuit()
            circuit.run(.failure, times: 9)
            if steps > 0 { circuit.run(.failure) }
            if steps > 1 { circuit.wait(.seconds(30)) }
            circuit.circuit.override(nil, reason: "r", actor: "ann", at: circuit.now, using: &circuit.generator)
            #expect(circuit.phase == .closed)
            #expect(circuit.circuit.reopened == 0)
            circuit.run(.failure, times: 9)
            #expect(circuit.phase == .closed)
        }
    }

    @Test("transitions are numbered one after the other, each from where the last one led")
    func numbered() {
        var circuit = DrivenCircuit()
        for _ in 0..<3 {
            circuit.becomeHalfOpen()
            circuit.run(.failure)
            circuit.wait(.seconds(600))
            circuit.run(.success, times: 3)
        }
        let transitions = circuit.circuit.drainTransitions()
        #expect(transitions.map(\.generation) == Array(2...Int64(transitions.count + 1)))
        #expect(zip(transitions, transitions.dropFirst()).allSatisfy { $0.to == $1.from && $0.to != $1.to })
    }
}
