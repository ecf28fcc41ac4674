import Testing

@testable import Breakwater

@Suite("What is recorded of a run")
struct FinishedRunTests {
    private typealias Ending = FinishedRun.Ending
    private let failure = JobFailure("name", "message")
    private var settings: HandlerSettings {
        var settings = HandlerSettings()
        settings.retry.jitter = .none
        settings.retry.base = .seconds(3)
        return settings
    }

    private func ending(_ outcome: JobOutcome, attempt: Int = 1) -> Ending {
        Ending(outcome, of: Job(kind: "k", attempt: attempt), duration: .zero, settings: settings)
    }

    @Test("each class is recorded under its name, with its failure and its delay")
    func classes() {
        #expect(ending(.succeeded()) == Ending(outcomeClass: .succeeded))
        #expect(
            ending(.failed(failure), attempt: 2)
                == Ending(outcomeClass: .failed, failure: failure, delay: .seconds(6), effect: .failed)
        )
        #expect(
            ending(.unavailable(failure))
                == Ending(outcomeClass: .unavailable, failure: failure, delay: .seconds(3), effect: .failed)
        )
        #expect(
            ending(.unavailable(failure, retryAfter: .seconds(9)))
                == Ending(outcomeClass: .unavailable, failure: failure, delay: .seconds(9), effect: .failed)
        )
        #expect(ending(.throttled(failure)).delay == .zero, "the settling decides")
        #expect(
            ending(.throttled(failure, retryAfter: .seconds(8)))
                == Ending(outcomeClass: .throttled, failure: failure, delay: .seconds(8))
        )
        #expect(
            ending(.unable(failure)) == Ending(outcomeClass: .unable, failure: failure),
            "the settling decides when"
        )
        #expect(ending(.discarded(failure)) == Ending(outcomeClass: .discarded, failure: failure))
        #expect(ending(.snoozed(.seconds(7))) == Ending(outcomeClass: .snoozed, delay: .seconds(7)))
        #expect(ending(.released) == Ending(outcomeClass: .released))
    }

    @Test("a delay that the dependency asks for never shortens the job's own backoff", arguments: [-9, 0, 1, 5])
    func shortRetryAfter(seconds: Int) {
        #expect(ending(.unavailable(failure, retryAfter: .seconds(seconds)), attempt: 2).delay == .seconds(6))
    }

    @Test("what the circuit learns follows the class, unless a rule for the failure's name says otherwise")
    func effects() {
        var circuit = CircuitPolicy()
        func effect(_ outcome: JobOutcome) -> FinishedRun.Effect { circuit.effect(of: outcome) }
        let wait = Duration.seconds(1)
        #expect(effect(.failed(failure)) == .failed)
        #expect(effect(.unavailable(failure)) == .failed)
        for ignored in [
            JobOutcome.throttled(failure, retryAfter: wait), .unable(failure), .discarded(failure), .snoozed(wait),
            .released,
        ] {
            #expect(effect(ignored) == .ignored)
        }
        circuit.honoursRetryAfter = true
        #expect(effect(.throttled(failure, retryAfter: wait)) == .tripped)
        circuit.countOn = ["na*"]
        #expect(effect(.discarded(failure)) == .failed)
        circuit.tripOn = ["name"]
        #expect(effect(.discarded(failure)) == .tripped)
        #expect(effect(.failed(failure)) == .tripped)
        #expect(effect(.unable(failure)) == .ignored, "it says nothing about the dependency, whatever its name is")
        circuit.ignoreOn = ["name"]
        #expect(effect(.failed(failure)) == .ignored)
    }

    @Test("a run as long as the circuit allows is slow, unless the circuit ignores it")
    func slow() {
        var slowing = settings
        slowing.circuit.slowCall = .seconds(1)
        func isSlow(_ outcome: JobOutcome, _ duration: Duration) -> Bool {
            Ending(outcome, of: Job(kind: "k"), duration: duration, settings: slowing).isSlow
        }
        #expect(isSlow(.succeeded(), .seconds(1)))
        #expect(isSlow(.failed(failure), .seconds(2)))
        #expect(!isSlow(.succeeded(), .milliseconds(999)))
        #expect(!isSlow(.snoozed(.zero), .seconds(2)))
    }

    @Test("a result is kept only for handlers that keep results")
    func results() {
        var keeping = settings
        keeping.keepResults = .seconds(60)
        let job = Job(kind: "k")
        #expect(Ending(.succeeded(result: "1"), of: job, duration: .zero, settings: settings).result == nil)
        #expect(Ending(.succeeded(result: "1"), of: job, duration: .zero, settings: keeping).result == "1")
        // The job can be found afterwards although it has no result.
        #expect(Ending(.succeeded(), of: job, duration: .zero, settings: keeping).result == "null")
    }

    @Test("a failure is stored without U+0000, and cut to its limits")
    func storable() {
        let stored = JobFailure("a\0b" + String(repeating: "n", count: 300), String(repeating: "é\0", count: 9000))
            .storable
        #expect(stored.name.count == 200)
        #expect(stored.name.hasPrefix("a\u{FFFD}b"))
        #expect(stored.message.count == JobFailure.longestMessage)
        #expect(!stored.message.utf8.contains(0))
    }

    @Test("a run that was cancelled counts if it did its work; otherwise its outcome is that of the cancellation")
    func judged() {
        let timeout = Duration.seconds(2)
        #expect(JobOutcome.succeeded().judged(for: .timeout, timeout: timeout) == .succeeded())
        #expect(JobOutcome.succeeded().judged(for: .leaseLost, timeout: timeout) == .succeeded())
        #expect(JobOutcome.failed(failure).judged(for: nil, timeout: timeout) == .failed(failure))
        #expect(JobOutcome.failed(failure).judged(for: .shutdown, timeout: timeout) == .released)
        #expect(JobOutcome.discarded(failure).judged(for: .leaseLost, timeout: timeout) == .released)
        guard case .failed(let late) = JobOutcome.released.judged(for: .timeout, timeout: timeout) else {
            Issue.record("a run past its timeout did not fail")
            return
        }
        #expect(late.name == "timeout")
        #expect(late.message.contains("2.0 seconds"))
    }
}
