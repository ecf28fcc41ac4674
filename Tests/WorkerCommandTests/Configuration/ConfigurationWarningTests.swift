import Breakwater
import Testing

@testable import WorkerCommand

@Suite("A configuration is valid but has a warning")
struct ConfigurationWarningTests {
    /// Returns the warnings about a text.
    private func warnings(_ text: String, registered: [HandlerRegistration] = []) throws -> [String] {
        try load(text, registered: registered).warnings
    }

    @Test("when a job is rerouted to a kind that only another worker can have")
    func reroute() throws {
        let found = try warnings("handlers:\n  a: { exec: { command: [cat] }, circuit: { fallback: { reroute: b } } }")
        #expect(
            found == [
                "worker.yaml:2: handlers.a.circuit.fallback: reroute: this worker has no handler of the kind 'b'; "
                    + "another worker must have one"
            ]
        )
    }

    @Test("when a schedule enqueues jobs of a kind that only another worker can have")
    func schedule() throws {
        let found = try warnings(
            "schedules:\n  s: { every: 1s, kind: b }\nhandlers: { a: { exec: { command: [cat] } } }"
        )
        #expect(
            found == [
                "worker.yaml:2: schedules.s.kind: this worker has no handler of the kind 'b'; another worker must have one"
            ]
        )
    }

    @Test("when handlers that share a circuit have other rules for it")
    func sharedCircuit() throws {
        let found = try warnings(
            """
            handlers:
              b: { exec: { command: [cat] }, circuit: { key: payments, open_for: 5s, trip_on: [x] } }
              c: { exec: { command: [cat] }, circuit: { key: payments, open_for: 5s, probes: 1 } }
              a: { exec: { command: [cat] }, circuit: { key: payments } }
              d: { exec: { command: [cat] }, circuit: { key: mail, probes: 9 } }
              e: { exec: { command: [cat] }, circuit: { key: mail, probes: 9, fallback: dead_letter } }
            """
        )
        #expect(
            found == [
                "worker.yaml:4: handlers.a.circuit.key: 'a', 'b', 'c' share the circuit 'payments' but differ in "
                    + "open_for, probes; what 'a' says, the first by name, holds for all"
            ]
        )
    }

    @Test("when more jobs run at once than the processes of a stdio handler take")
    func concurrency() throws {
        let found = try warnings(
            "handlers: { a: { stdio: { command: [cat], processes: 2, ahead: 1 }, concurrency: 5 } }"
        )
        #expect(
            found == [
                "worker.yaml:1: handlers.a.concurrency: 5 is more than the 4 that its plugin runs at once; "
                    + "other jobs wait in the worker, and their timeouts run"
            ]
        )
    }

    @Test(
        "when a key has no effect beside the others",
        arguments: [
            (
                "circuit: { slow_rate: 50% }",
                "circuit.slow_rate: it has no effect without slow_call, which says how long a slow call takes"
            ),
            ("retry: { backoff: linear, factor: 3 }", "retry.factor: it has no effect with the backoff linear"),
            (
                "retry: { backoff: decorrelated, jitter: full }",
                "retry.jitter: it has no effect with the backoff decorrelated, which has its own"
            ),
        ]
    )
    func noEffect(keys: String, message: String) throws {
        let found = try warnings("handlers: { a: { exec: { command: [cat] }, \(keys) } }")
        #expect(found == ["worker.yaml:1: handlers.a." + message])
    }
}

@Suite("A circuit's key")
struct CircuitKeyTests {
    @Test(
        "is a path if it begins with $",
        arguments: [
            ("$.host", ["host"]), ("$.a.b-c_d.9", ["a", "b-c_d", "9"]), ("$.hosts[0].name", ["hosts", "0", "name"]),
            ("$[\"home page\"]['x.y']", ["home page", "x.y"]), (#"$["a\"b"]"#, ["a\"b"]), ("$.größe", ["größe"]),
        ]
    )
    func paths(text: String, segments: [String]) throws {
        let key = try ValueRule.circuitKey.read(text)
        #expect(key == .path(segments))
        #expect(try ValueRule.circuitKey.read(ValueRule.circuitKey.text(key)) == key)
    }

    @Test(
        "is a name that handlers share if it does not",
        arguments: ["payments", "api.example.com", "a b", "host$"]
    )
    func names(text: String) throws {
        #expect(try ValueRule.circuitKey.read(text) == .shared(text))
    }

    @Test(
        "is refused where it could mean several values or none",
        arguments: [
            "$", "$.", "$..a", "$.*", "$.a[*]", "$.a[1:2]", "$.a[-1]", "$.a[?(@.b)]", "$a", "$.a b", "$.a[", "$[\"\"]",
            ".a", "",
        ]
    )
    func refused(text: String) {
        #expect(throws: ValueRefusal.self) { try ValueRule.circuitKey.read(text) }
    }
}
