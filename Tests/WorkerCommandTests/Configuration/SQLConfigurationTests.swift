import Breakwater
import Testing

@testable import WorkerCommand

@Suite("A SQL handler in a configuration") struct SQLConfigurationTests {
    @Test("has as many slots as connections, unless the file says otherwise")
    func concurrency() throws {
        func handler(_ keys: String, _ more: String = "") throws -> Int? {
            let text = "handlers: { a: { sql: { function: app.f, role: r, \(keys) } \(more) } }"
            return try load(text).worker.handlers[0].settings.concurrency
        }
        #expect(try handler("") == 4)
        #expect(try handler("connections: 7") == 7)
        #expect(try handler("connections: 7", ", concurrency: 2") == 2)
    }

    @Test(
        "is refused with the key at fault",
        arguments: [
            ("{ role: r }", "handlers.a.sql: there is no function"),
            ("{ function: app.f }", "handlers.a.sql: there is no role"),
            ("{ function: f, role: r }", "handlers.a.sql.function: 'f' is not allowed"),
            ("{ function: app.f, role: r, connections: 0 }", "handlers.a.sql.connections: '0' is not allowed"),
            ("{ function: app.f, role: r, max_result: 2GiB }", "handlers.a.sql.max_result: '2GiB' is not allowed"),
            ("{ function: app.f, role: r, discard_on: [abc] }", "handlers.a.sql.discard_on: [0] 'abc' is not allowed"),
            (
                "{ function: app.f, role: r, discard_on: [\"23\"], retry_on: [\"23\"] }",
                "handlers.a.sql.retry_on: '23' is in"
            ),
            ("{ function: app.f, role: r }, timeout: 2h", "handlers.a.timeout: 2h is too long for sql"),
        ]
    )
    func refused(section: String, message: String) {
        let error = #expect(throws: ConfigurationError.self) { try load("handlers: { a: { sql: \(section) } }") }
        #expect(error?.description.contains(message) == true, "\(error?.description ?? "")")
    }
}
