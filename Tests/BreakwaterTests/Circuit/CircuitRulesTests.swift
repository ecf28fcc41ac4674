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
    @Test("a closed circuit never becomes half-open directly, nor an open one before its time")
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
        #expect(circuit.circuit.drainTransitions().map(\.to) == [.open, .halfOpen])
    }

    @Test("becomes half-open also by a call that asks for admission")
    func byCall() throws {
        var circuit = DrivenCircuit()
        circuit.run(.failure, times: 10)
        circuit.now += try #require(circuit.openTime)
        #expect(circuit.admit(10).count == 3)
        #expect(circuit.phase == .halfOpen)
    }

    @Test("admits the configured number of probes and no more, and another for each that ends")
    func permits() {
        var circuit = DrivenCircuit { $0.successesToClose = 100 }
        circuit.becomeHalfOpen()
        let probes = circuit.admit(50)
        #expect(probes.count == 3)
        #expect(circuit.admit().isEmpty)
        circuit.end(probes[0], .success)
        #expect(circuit.admit(50).count == 1)
    }

    @Test("needs the configured number of successes to close", arguments: 1...5)
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
        // Each case lists how the probes end, call by call, and the verdict after each call. + closes, - opens, . does
        // neither.
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

    @Test("a probe that never reports gives up its place in the end")
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

    @Test("a circuit that is half-open for too long without a decision re-opens")
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
