import Foundation
import Testing

@testable import Breakwater

/// The seed of random tests, from `BREAKWATER_SEED`, or a new one each time. Tests print it when they fail.
let testSeed: UInt64 = {
    let seed =
        ProcessInfo.processInfo.environment["BREAKWATER_SEED"].flatMap { UInt64($0) } ?? .random(in: 0...UInt64.max)
    print("BREAKWATER_SEED=\(seed)")
    return seed
}()

/// A circuit that a test drives, with its clock and its random generator.
struct DrivenCircuit {
    var circuit: Circuit
    var now = Duration.zero
    var generator = SeededGenerator(seed: testSeed)
    private var call: Int64 = 0

    init(_ configure: (inout CircuitPolicy) -> Void = { _ in }) {
        var policy = CircuitPolicy()
        configure(&policy)
        circuit = Circuit(policy: policy, now: .zero)
    }

    var phase: CircuitPhase { circuit.state.phase }

    /// The time left until probing may begin. Nil if the circuit is not open, or is held open.
    var openTime: Duration? {
        if case .open(let retryAt?) = circuit.state { retryAt - now } else { nil }
    }

    mutating func wait(_ duration: Duration) {
        now += duration
        circuit.applyDueTransition(at: now, using: &generator)
    }

    /// Asks for `wanted` calls, and returns the admitted ones.
    mutating func admit(_ wanted: Int = 1, running: Int = 0, concurrency: Int? = nil) -> [Call] {
        let admission = circuit.admit(wanted, running: running, concurrency: concurrency, at: now, using: &generator)
        return (0..<admission.count).map { _ in
            call += 1
            if admission.isProbe { circuit.lease(probe: call, until: now + .seconds(60)) }
            return Call(number: call, generation: admission.generation)
        }
    }

    struct Call {
        var number: Int64
        var generation: Int64
    }

    mutating func end(_ call: Call, _ calls: CircuitCalls?) {
        circuit.free(probe: call.number)
        if let calls { circuit.record(calls, of: call.generation, at: now, using: &generator) }
    }

    /// Makes calls one by one, as far as they are admitted.
    mutating func run(_ calls: CircuitCalls?, times: Int = 1) {
        for _ in 0..<times {
            for call in admit() { end(call, calls) }
        }
    }

    /// Opens the circuit, whatever its thresholds, and waits until it is half-open.
    mutating func becomeHalfOpen() {
        run(CircuitCalls(failed: 1, trip: "test"))
        wait(circuit.policy.openCap)
    }
}

extension CircuitCalls {
    static let success = CircuitCalls(succeeded: 1)
    static let failure = CircuitCalls(failed: 1)
    static let slowSuccess = CircuitCalls(succeeded: 1, slowSucceeded: 1)
    static let slowFailure = CircuitCalls(failed: 1, slowFailed: 1)
}
