import Breakwater
import Testing

@testable import WorkerCommand

@Suite("The history in a configuration")
struct HistoryConfigurationTests {
    private func settings(_ keys: String) throws -> HandlerSettings {
        try load("handlers: { a: { exec: { command: [cat] }, \(keys) } }").worker.handlers[0].settings
    }

    @Test("has a time, and may keep the payload and name a key; it is off by default")
    func read() throws {
        #expect(try settings("history: { keep: 7d }").history == JobHistory(keep: .seconds(7 * 86_400)))
        #expect(
            try settings("history: { keep: 1h, payload: true, key: $.customer }").history
                == JobHistory(keep: .seconds(3600), payload: true, key: ["customer"])
        )
        #expect(try settings("history: off").history == nil)
        #expect(try settings("timeout: 5s").history == nil)
    }

    @Test(
        "is refused with the line, the key, the value and what is allowed",
        arguments: [
            ("history: {}", "handlers.a.history: nothing says how long finished jobs are kept; give { keep: 7d }"),
            (
                "history: { keep: 1m }",
                "handlers.a.history.keep: '1m' is not allowed; give a duration from 1h to 3650d, such as 30s"
            ),
            (
                "history: { keep: 7d, key: customer }",
                "handlers.a.history.key: 'customer' is not a path; write $.customer for what stands there in the payload"
            ),
            (
                "history: { keep: 7d, payload: maybe }",
                "handlers.a.history.payload: 'maybe' is not allowed; give true or false"
            ),
            (
                "history: { keep: 7d, paylod: true }",
                "handlers.a.history.paylod: this key is not known; did you mean 'payload'?"
            ),
        ]
    )
    func refused(_ keys: String, _ message: String) {
        do {
            _ = try load("handlers: { a: { exec: { command: [cat] }, \(keys) } }")
            Issue.record("it is accepted")
        } catch let error as ConfigurationError {
            #expect(error.problems.map(\.description) == ["worker.yaml:1: " + message])
        } catch {
            Issue.record("unexpected: \(error)")
        }
    }
}
