import Testing

@testable import Breakwater

@Suite("A circuit's rules: tripping")
struct CircuitTripTests {
    @Test("below the minimum of calls the rate says nothing; at it, at the threshold, it opens", arguments: 1...100)
    func minimum(percent: Int) {
        let rate = Double(percent) / 100
        var circuit = DrivenCircuit {
            $0.failureRate = rate
            $0.minimumCalls = 100
            $0.consecutiveFailures = nil
        }
        circuit.run(.success, times: 100 - percent)
        circuit.run(.failure, times: percent - 1)
        #expect(circuit.phase == .closed)
        circuit.run(.failure)
        #expect(circuit.phase == .open)
        #expect(circuit.circuit.reason == "\(percent) of 100 calls failed in 60 s")
    }

    @Test("just below the threshold it stays closed")
    func belowThreshold() {
        var circuit = DrivenCircuit { $0.consecutiveFailures = nil }
        circuit.run(.success, times: 11)
        circuit.run(.failure, times: 10)
        #expect(circuit.phase == .closed)
        circuit.run(.failure)
        #expect(circuit.phase == .open)
    }

    @Test("trips though nothing ever succeeded")
    func neverASuccess() {
        var circuit = DrivenCircuit()
        circuit.run(.failure, times: 9)
        #expect(circuit.phase == .closed)
        circuit.run(.failure)
        #expect(circuit.phase == .open)
        #expect(circuit.circuit.reason == "10 failures in a row")
    }

    @Test("a success ends a streak, in a batch as well")
    func streak() {
        var circuit = DrivenCircuit { $0.failureRate = nil }
        for calls in [CircuitCalls.success, CircuitCalls(succeeded: 1, failed: 5)] {
            circuit.run(.failure, times: 9)
            circuit.run(calls)
        }
        circuit.run(.failure, times: 9)
        #expect(circuit.phase == .closed)
        circuit.run(.failure)
        #expect(circuit.phase == .open)
    }

    @Test("a streak may be longer than the window")
    func longStreak() {
        var circuit = DrivenCircuit {
            $0.failureRate = nil
            $0.window = .calls(3)
            $0.minimumCalls = 3
            $0.consecutiveFailures = 5
        }
        circuit.run(.failure, times: 4)
        #expect(circuit.phase == .closed)
        circuit.run(.failure)
        #expect(circuit.phase == .open)
    }

    @Test("slow calls alone open it, successes and failures alike")
    func slowCalls() {
        var circuit = DrivenCircuit {
            $0.failureRate = nil
            $0.consecutiveFailures = nil
            $0.slowCall = .seconds(1)
            $0.slowRate = 0.5
            $0.minimumCalls = 4
        }
        circuit.run(.success, times: 2)
        circuit.run(.slowSuccess)
        #expect(circuit.phase == .closed)
        circuit.run(.slowFailure)
        #expect(circuit.phase == .open)
        #expect(circuit.circuit.reason == "2 of 4 calls were slow in 60 s")
    }

    @Test("thresholds that are nil never trip")
    func noThresholds() {
        var circuit = DrivenCircuit {
            $0.failureRate = nil
            $0.consecutiveFailures = nil
        }
        circuit.run(.slowFailure, times: 1000)
        #expect(circuit.phase == .closed)
    }

    @Test("one call may trip it at once, by its name")
    func tripsAtOnce() {
        var circuit = DrivenCircuit()
        circuit.run(CircuitCalls(failed: 1, trip: "http.401"))
        #expect(circuit.phase == .open)
        #expect(circuit.circuit.reason == "http.401 opens it at once")
    }

    @Test("ignored calls count for nothing")
    func ignored() {
        var circuit = DrivenCircuit { $0.minimumCalls = 2 }
        circuit.run(nil, times: 100)
        circuit.run(.failure)
        #expect(circuit.phase == .closed)
    }
}

@Suite("A circuit's rules: open and half-open")
struct CircuitProbeTests {
    @Test("closed never goes straight to half-open, and open not before its time")
    func order() throws {
        var circuit = DrivenCircuit()
        circuit.wait(.seconds(1_000_000))
        #expect(circuit.phase == .closed)
        circuit.run(.failure, times: 10)
        let openTime = try #require(circuit.openTime)
        circuit.wait(openTime - .nanoseconds(1))
        #expect(circuit.phase == .open)
        #expect(circuit.admit().isEmpty)
        circuit.wait(.nanoseconds(1))
        #expect(circuit.phase == .halfOpen)
        #expect(circuit.circuit.takeTransitions().map(\.to) == [.open, .halfOpen])
    }

    @Test("becomes half-open by a call that asks, too")
    func byCall() throws {
        var circuit = DrivenCircuit()
        circuit.run(.failure, times: 10)
        circuit.now += try #require(circuit.openTime)
        #expect(circuit.admit(10).count == 3)
        #expect(circuit.phase == .halfOpen)
    }

    @Test("lets through so many probes and no more, and another for each that ends")
    func permits() {
        var circuit = DrivenCircuit { $0.successesToClose = 100 }
        circuit.becomeHalfOpen()
        let probes = circuit.admit(50)
        #expect(probes.count == 3)
        #expect(circuit.admit().isEmpty)
        circuit.end(probes[0], .success)
        #expect(circuit.admit(50).count == 1)
    }

    @Test("needs so many successes to close", arguments: 1...5)
    func successes(wanted: Int) {
        var circuit = DrivenCircuit { $0.successesToClose = wanted }
        circuit.becomeHalfOpen()
        circuit.run(.success, times: wanted - 1)
        #expect(circuit.phase == .halfOpen)
        circuit.run(.success)
        #expect(circuit.phase == .closed)
        #expect(circuit.circuit.reason == "\(wanted) probes succeeded")
    }

    @Test("a round is judged by the policy's own rate, and the others' share must reach it as well")
    func verdicts() {
        // What each circuit's probes come to, call by call, and what follows: + closes it, - opens it, . leaves it.
        let cases: [(rate: Double?, calls: String, verdict: String)] = [
            (0.5, "sss", "..+"), (0.5, "fff", "..-"), (0.5, "fsss", "...+"), (0.5, "ffsss", "....+"),
            (0.5, "sffff", "....-"), (0.5, "ssfffff", "......-"), (0.5, "sfsfs", "....+"), (0.5, "sfffsss", "......+"),
            (nil, "ffsss", "....+"), (1, "fff", "..-"), (1, "sffffff", "......."), (1, "sffss", "....+"),
            (0.1, "sssf", "..+"), (0.1, "fsssssssss", ".........."), (0.1, "fssssssssss", "..........+"),
            (0.1, "fsfff", "....-"),
        ]
        for (rate, calls, verdict) in cases {
            var circuit = DrivenCircuit { $0.failureRate = rate }
            circuit.becomeHalfOpen()
            var seen = ""
            for call in calls.prefix(verdict.count) where circuit.phase == .halfOpen {
                circuit.run(call == "s" ? .success : .failure)
                seen += circuit.phase == .closed ? "+" : circuit.phase == .open ? "-" : "."
            }
            #expect(seen == verdict, "\(rate ?? -1) \(calls)")
        }
    }

    @Test("a round that does not come to a decision ends after ten times its probes")
    func longRound() {
        var circuit = DrivenCircuit()
        circuit.becomeHalfOpen()
        for call in 0..<30 {
            #expect(circuit.phase == .halfOpen, "\(call)")
            circuit.run(call.isMultiple(of: 2) ? .failure : .success)
        }
        #expect(circuit.phase == .open)
        #expect(circuit.circuit.reason == "15 of 30 probes failed")
    }

    @Test("a slow success re-opens where slow calls count, and closes where they do not")
    func slowProbes() {
        for (slowCall, phase) in [(Duration.seconds(1), CircuitPhase.open), (nil, .closed)] {
            var circuit = DrivenCircuit {
                $0.slowCall = slowCall
                $0.successesToClose = 1
            }
            circuit.becomeHalfOpen()
            circuit.run(.slowSuccess)
            #expect(circuit.phase == phase)
        }
    }

    @Test("an ignored probe frees its own permit and decides nothing; good ones after it still close")
    func ignoredProbes() {
        var circuit = DrivenCircuit()
        circuit.becomeHalfOpen()
        for _ in 0..<100 {
            let probes = circuit.admit(3)
            #expect(probes.count == 3)
            circuit.end(probes[0], nil)
            #expect(circuit.admit(3).count == 1)
            for probe in probes { circuit.end(probe, nil) }
            circuit.now += .seconds(100)
        }
        #expect(circuit.phase == .halfOpen)
        circuit.run(.success, times: 3)
        #expect(circuit.phase == .closed)
    }

    @Test("a probe that nobody hears of again gives up its place in the end")
    func lostProbes() {
        var circuit = DrivenCircuit()
        circuit.becomeHalfOpen()
        #expect(circuit.admit(3).count == 3)
        circuit.wait(.seconds(59))
        #expect(circuit.admit(3).isEmpty)
        circuit.wait(.seconds(1))
        #expect(circuit.admit(3).count == 3)
    }

    @Test("a result of an earlier generation changes nothing: no closing, no re-opening, no longer open time")
    func earlierGenerations() throws {
        var circuit = DrivenCircuit { $0.successesToClose = 1 }
        let whileClosed = circuit.admit(2)
        circuit.run(.failure, times: 10)
        let retryAt = circuit.openTime
        circuit.end(whileClosed[0], .failure)
        #expect(circuit.openTime == retryAt)
        circuit.wait(.seconds(30))
        #expect(circuit.phase == .halfOpen)
        circuit.end(whileClosed[1], .success)
        #expect(circuit.phase == .halfOpen)

        let probes = circuit.admit(2)
        circuit.end(probes[0], .failure)
        #expect(circuit.circuit.reopened == 1)
        circuit.wait(.seconds(600))
        #expect(circuit.phase == .halfOpen)
        circuit.end(probes[1], .failure)
        #expect(circuit.phase == .halfOpen)
        circuit.run(.success)
        #expect(circuit.phase == .closed)
    }

    @Test("probes of an earlier half-open phase still take their places")
    func oldProbes() {
        var circuit = DrivenCircuit {
            $0.openFor = .seconds(1)
            $0.openCap = .seconds(1)
        }
        circuit.becomeHalfOpen()
        let probes = circuit.admit(3)
        circuit.end(probes[0], .failure)
        circuit.wait(.seconds(1))
        #expect(circuit.phase == .halfOpen)
        #expect(circuit.admit(3).count == 1)
    }

    @Test("half-open for too long without a decision, it re-opens")
    func halfOpenFor() {
        var circuit = DrivenCircuit { $0.halfOpenFor = .seconds(30) }
        circuit.becomeHalfOpen()
        circuit.run(.success)
        circuit.wait(.milliseconds(29_900))
        #expect(circuit.phase == .halfOpen)
        circuit.wait(.milliseconds(100))
        #expect(circuit.phase == .open)
        #expect(circuit.circuit.reopened == 1)
    }

    @Test("after closing, a worker's share grows from a tenth to all of it")
    func ramp() {
        var circuit = DrivenCircuit {
            $0.successesToClose = 1
            $0.ramp = .seconds(100)
        }
        circuit.becomeHalfOpen()
        circuit.run(.success)
        #expect(circuit.admit(1000, concurrency: 1000).count == 100)
        #expect(circuit.admit(5, concurrency: 1000).count == 5)
        circuit.wait(.seconds(50))
        #expect(circuit.admit(1000, concurrency: 1000).count == 500)
        #expect(circuit.admit(1000, running: 495, concurrency: 1000).count == 5)
        #expect(circuit.admit(1000, running: 600, concurrency: 1000).isEmpty)
        #expect(circuit.admit(1, concurrency: 1).count == 1)
        circuit.wait(.seconds(50))
        #expect(circuit.admit(1000, concurrency: 1000).count == 1000)
    }
}

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
            // Closed for as long as it was open, it starts over.
            circuit.wait(circuit.now - openedAt)
        }
        // A relapse goes on.
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
        "what the dependency asked for goes before it, up to the cap",
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
        _ = circuit.circuit.takeTransitions()
        circuit.run(.failure, times: 100)
        let said = circuit.circuit.takeTransitions()
        #expect(said.map(\.reason) == ["would have opened: 10 failures in a row"])
        #expect(said.first?.generation == circuit.circuit.generation)
    }

    @Test("each ends when told to, closed and with nothing counted", arguments: CircuitOverride.allCases)
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
        let transitions = circuit.circuit.takeTransitions()
        #expect(transitions.map(\.generation) == Array(2...Int64(transitions.count + 1)))
        #expect(zip(transitions, transitions.dropFirst()).allSatisfy { $0.to == $1.from && $0.to != $1.to })
    }
}
