import Breakwater
import BreakwaterStdio
import Testing

@testable import WorkerCommand

@Suite("A stdio handler in a configuration") struct StdioHandlerTests {
    @Test("runs as many jobs at once as its processes take, unless the file says otherwise")
    func concurrency() throws {
        func concurrency(_ keys: String) throws -> Int? {
            try load("handlers: { a: { stdio: { command: [cat], \(keys) } } }").worker.handlers[0].settings.concurrency
        }
        #expect(try concurrency("processes: 4") == 4)
        #expect(try concurrency("processes: 4, jobs: 3, ahead: 2") == 20)
        let given = try load("handlers: { a: { stdio: { command: [cat], processes: 4 }, concurrency: 2 } }")
        #expect(given.worker.handlers[0].settings.concurrency == 2)
        #expect(given.worker.handlers[0].plugin is StdioPlugin)
        #expect(given.worker.handlers[0].plugin.capacity == 4)
    }
}
