import Testing

@testable import Breakwater

@Suite("A circuit's policy")
struct CircuitPolicyTests {
    struct Refusal: Sendable, CustomTestStringConvertible {
        var key: String
        var change: @Sendable (inout CircuitPolicy) -> Void
        var testDescription: String { key }

        init(_ key: String, _ change: @escaping @Sendable (inout CircuitPolicy) -> Void) {
            self.key = key
            self.change = change
        }
    }

    static let refusals: [Refusal] = [
        Refusal("failure_rate is 0.0") { $0.failureRate = 0 },
        Refusal("failure_rate is -0.1") { $0.failureRate = -0.1 },
        Refusal("failure_rate is 1.01") { $0.failureRate = 1.01 },
        Refusal("failure_rate is nan") { $0.failureRate = .nan },
        Refusal("slow_rate is 0.0") { $0.slowRate = 0 },
        Refusal("slow_rate is 1.5") { $0.slowRate = 1.5 },
        Refusal("slow_call is 0.0 seconds") { $0.slowCall = .zero },
        Refusal("slow_call is -1.0 seconds") { $0.slowCall = .seconds(-1) },
        Refusal("consecutive_failures is 0") { $0.consecutiveFailures = 0 },
        Refusal("consecutive_failures is 3000000000") { $0.consecutiveFailures = 3_000_000_000 },
        Refusal("minimum_calls is 0") { $0.minimumCalls = 0 },
        Refusal("minimum_calls is 20; the window of 10 calls never holds that many") { $0.window = .calls(10) },
        Refusal("window is 0 calls") {
            $0.window = .calls(0)
            $0.minimumCalls = 1
        },
        Refusal("window is 10001 calls") { $0.window = .calls(10_001) },
        Refusal("window is 0.5 seconds") { $0.window = .time(.seconds(0.5)) },
        Refusal("window is 86401.0 seconds") { $0.window = .time(.seconds(86_401)) },
        Refusal("open_for is 0.0 seconds") { $0.openFor = .zero },
        Refusal("open_cap is 10.0 seconds; it must not be below open_for") { $0.openCap = .seconds(10) },
        Refusal("open_cap is 1000000000.0 seconds") { $0.openCap = .seconds(1_000_000_000) },
        Refusal("open_factor is 0.5") { $0.openFactor = 0.5 },
        Refusal("open_factor is inf") { $0.openFactor = .infinity },
        Refusal("open_factor is nan") { $0.openFactor = .nan },
        Refusal("probes is 0") { $0.probes = 0 },
        Refusal("successes_to_close is 0") { $0.successesToClose = 0 },
        Refusal("half_open_for is 0.0 seconds") { $0.halfOpenFor = .zero },
        Refusal("ramp is -1.0 seconds") { $0.ramp = .seconds(-1) },
        Refusal("key is an empty path") { $0.key = .path([]) },
        Refusal("key '' must have 1 to 200 bytes") { $0.key = .shared("") },
        Refusal("fallback.succeed is '{\"a\":}'") { $0.fallback = .succeed(result: #"{"a":}"#) },
        Refusal("fallback.succeed is '\"\\u0000\"'") { $0.fallback = .succeed(result: #""\u0000""#) },
        Refusal("fallback.reroute is ''") { $0.fallback = .reroute(kind: "") },
    ]

    @Test("refuses a setting that cannot work, by its key and its value", arguments: refusals)
    func refuses(refusal: Refusal) throws {
        var policy = CircuitPolicy()
        refusal.change(&policy)
        let error = #expect(throws: BreakwaterError.self) { try CircuitBreaker(name: "x", policy: policy) }
        #expect(error?.message.hasPrefix(refusal.key) == true, "\(error?.message ?? "nothing")")
        #expect(error?.message.contains("\n") == false)

        var settings = HandlerSettings()
        settings.circuit = policy
        #expect(settings.faults.contains { $0.hasPrefix("circuit.\(refusal.key)") })
    }

    @Test("allows the defaults, and values that lie on the bounds")
    func allows() {
        var policy = CircuitPolicy()
        #expect(policy.faults == [])
        policy.failureRate = 1
        policy.minimumCalls = 1
        policy.window = .calls(1)
        policy.openFor = policy.openCap
        policy.openFactor = 1
        policy.probes = 1
        policy.successesToClose = 1
        policy.ramp = .zero
        policy.fallback = .succeed(result: " {\"skipped\": true}\n")
        #expect(policy.faults == [])
    }

    @Test("names every fault at once")
    func namesAll() {
        var policy = CircuitPolicy()
        policy.probes = 0
        policy.failureRate = 2
        policy.openFor = .zero
        #expect(policy.faults.count == 3)
    }
}
