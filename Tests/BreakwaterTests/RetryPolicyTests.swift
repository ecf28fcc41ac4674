import Testing

@testable import Breakwater

/// SplitMix64 (Steele, Lea and Flood, 2014): random numbers that are the same in each run.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

@Suite("A retry policy")
struct RetryPolicyTests {
    var policy = RetryPolicy()
    static let seed: UInt64 = 1
    var generator = SeededGenerator(seed: Self.seed)

    private mutating func delay(_ attempt: Int) -> Duration { policy.delay(afterAttempt: attempt, using: &generator) }

    @Test("stays between nothing and the cap, for every attempt", arguments: RetryPolicy.Backoff.allCases)
    mutating func bounds(backoff: RetryPolicy.Backoff) {
        policy.backoff = backoff
        for jitter in RetryPolicy.Jitter.allCases {
            policy.jitter = jitter
            for attempt in [Int.min, -1, 0, 1, 2, 10, 63, 64, 1023, 1024, 1025, 1 << 20, 1 << 31, Int.max] {
                let delay = delay(attempt)
                #expect(delay >= .zero && delay <= policy.cap, "\(jitter), attempt \(attempt)")
            }
        }
    }

    @Test("without jitter doubles up to the cap")
    mutating func exponential() {
        policy.jitter = .none
        policy.cap = .seconds(60)
        let delays = (1...9).map { attempt in delay(attempt) }
        #expect(delays == [1, 2, 4, 8, 16, 32, 60, 60, 60].map { .seconds($0) })
    }

    @Test("grows by its factor from its base")
    mutating func factor() {
        policy.jitter = .none
        policy.base = .milliseconds(500)
        policy.factor = 3
        #expect((1...4).map { attempt in delay(attempt) } == [0.5, 1.5, 4.5, 13.5].map { .seconds($0) })
    }

    @Test("linear grows by its base, constant not at all")
    mutating func linearAndConstant() {
        policy.jitter = .none
        policy.base = .seconds(5)
        policy.backoff = .linear
        #expect((1...3).map { attempt in delay(attempt) } == [5, 10, 15].map { .seconds($0) })
        policy.backoff = .constant
        #expect((1...3).map { attempt in delay(attempt) } == [5, 5, 5].map { .seconds($0) })
    }

    @Test("with a base of zero never waits")
    mutating func baseZero() {
        policy.base = .zero
        for backoff in RetryPolicy.Backoff.allCases {
            policy.backoff = backoff
            for attempt in [1, 5, 1024, 1025, 1 << 31] { #expect(delay(attempt) == .zero, "attempt \(attempt)") }
        }
    }

    @Test("with full jitter is uniform over the whole delay")
    mutating func fullJitter() {
        policy.base = .seconds(10)
        checkUniform(from: 0, to: 10)
    }

    @Test("with equal jitter is uniform over the upper half")
    mutating func equalJitter() {
        policy.base = .seconds(10)
        policy.jitter = .equal
        checkUniform(from: 5, to: 10)
    }

    /// Runs Pearson's chi-squared test over 20 equal bins. With 19 degrees of freedom, a uniform sample stays below
    /// 43.8 in 999 of 1000 cases. The seed is fixed, so the result is always the same.
    private mutating func checkUniform(from low: Double, to high: Double) {
        let samples = 20_000
        var bins = [Int](repeating: 0, count: 20)
        var outside: [Double] = []
        for _ in 0..<samples {
            let seconds = delay(1).inSeconds
            guard seconds >= low && seconds <= high else {
                outside.append(seconds)
                continue
            }
            bins[min(19, Int((seconds - low) / (high - low) * 20))] += 1
        }
        #expect(
            outside.isEmpty,
            "seed \(Self.seed), attempt 1: \(outside.count) of \(samples) delays are outside, such as \(outside.first ?? 0) s"
        )
        let expected = Double(samples) / 20
        let chiSquared = bins.reduce(0) { $0 + (Double($1) - expected) * (Double($1) - expected) / expected }
        #expect(chiSquared < 43.8, "seed \(Self.seed), attempt 1: the delays fall into these bins: \(bins)")
    }

    @Test("turns failures with certain names into discards, and discards into failures")
    mutating func rules() {
        policy.discardOn = ["http.4*", "exit.65", "*"].dropLast()
        policy.retryOn = ["http.409", "Decoding*"]
        func failure(_ name: String) -> JobFailure { JobFailure(name, "m") }

        #expect(policy.applyRules(to: .failed(failure("http.404"))) == .discarded(failure("http.404")))
        #expect(policy.applyRules(to: .unavailable(failure("http.4"))) == .discarded(failure("http.4")))
        #expect(policy.applyRules(to: .failed(failure("exit.65"))) == .discarded(failure("exit.65")))
        #expect(policy.applyRules(to: .failed(failure("exit.650"))) == .failed(failure("exit.650")))
        #expect(policy.applyRules(to: .failed(failure("http.503"))) == .failed(failure("http.503")))
        #expect(policy.applyRules(to: .discarded(failure("http.409"))) == .failed(failure("http.409")))
        #expect(policy.applyRules(to: .discarded(failure("DecodingError"))) == .failed(failure("DecodingError")))
        #expect(policy.applyRules(to: .discarded(failure("x"))) == .discarded(failure("x")))
        let throttled = JobOutcome.throttled(failure("http.429"), retryAfter: .seconds(1))
        let unable = JobOutcome.unable(failure("exit.65"))
        for outcome in [JobOutcome.succeeded(), .released, .snoozed(.seconds(1)), throttled, unable] {
            #expect(policy.applyRules(to: outcome) == outcome)
        }
    }

    @Test("a pattern of a lone star matches every name, and one without a star only itself")
    func patterns() {
        #expect(JobFailure("anything", "").matches("*"))
        #expect(JobFailure("", "").matches("*"))
        #expect(!JobFailure("http.503", "").matches("http.50"))
        #expect(!JobFailure("http", "").matches("http.*"))
        #expect(!JobFailure("a*b", "").matches("a*c"))
    }
}
