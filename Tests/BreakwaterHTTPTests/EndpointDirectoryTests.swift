import Breakwater
import BreakwaterTesting
import Libpq
import Testing

@testable import BreakwaterHTTP

@Suite(
    "The directory of endpoints",
    .enabled(if: TestDatabase.isAvailable, "BREAKWATER_TEST_DATABASE is not set")
)
struct EndpointDirectoryTests {
    private func with(_ database: TestDatabase, _ body: (EndpointDirectory) async throws -> Void) async throws {
        let directory = EndpointDirectory(database: database.options)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await directory.run() }
            try await body(directory)
            group.cancelAll()
        }
    }

    private func url(_ answer: EndpointDirectory.Answer) -> String {
        switch answer {
        case .found(let row): row.url
        case .none: "none"
        case .unreachable(let reason): "unreachable: \(reason)"
        case .cancelled: "cancelled"
        }
    }

    @Test("many searches at once are answered, with few queries")
    func batches() async throws {
        try await withTestDatabase { database in
            for number in 0..<20 { try await database.setEndpoint("e\(number)", "https://e\(number).example/") }
            try await with(database) { directory in
                await withTaskGroup(of: (Int, String).self) { group in
                    for number in 0..<500 {
                        group.addTask {
                            (number, url(await directory.find("e\(number % 40)", within: .seconds(60))))
                        }
                    }
                    for await (number, found) in group {
                        #expect(found == (number % 40 < 20 ? "https://e\(number % 40).example/" : "none"))
                    }
                }
            }
        }
    }

    @Test("a row that was read is used while the database does not answer; others are unreachable, with the reason")
    func databaseAway() async throws {
        try await withTestDatabase { database in
            try await database.setEndpoint("acme", "https://acme.example/")
            try await with(database) { directory in
                #expect(url(await directory.find("acme", within: .seconds(60))) == "https://acme.example/")
                try await database.query("alter function breakwater.endpoints_named rename to endpoints_gone")
                let other = url(await directory.find("other", within: .seconds(4)))
                #expect(other.hasPrefix("unreachable: ") && other.contains("endpoints_named"))
                // After this time a row is read again if that is possible.
                try await Task.sleep(for: .seconds(5.1))
                #expect(url(await directory.find("acme", within: .seconds(60))) == "https://acme.example/")
                try await database.query("alter function breakwater.endpoints_gone rename to endpoints_named")
                try await waitUntil("rows are read again") {
                    url(await directory.find("other", within: .seconds(4))) == "none"
                }
            }
        }
    }

    @Test("a search ends when its task is cancelled, and when the directory ends")
    func endings() async throws {
        try await withTestDatabase { database in
            try await database.query("alter function breakwater.endpoints_named rename to endpoints_gone")
            try await with(database) { directory in
                let search = Task { url(await directory.find("acme", within: .seconds(600))) }
                try await Task.sleep(for: .milliseconds(100))
                search.cancel()
                #expect(await search.value == "cancelled")
            }
            let idle = EndpointDirectory(database: database.options)
            #expect(url(await idle.find("acme", within: .milliseconds(200))).contains("not running beside the worker"))
        }
    }

    @Test("calls are reported as changes: a success only of a failing endpoint, a failure after it")
    func calls() {
        var calls = EndpointCalls()
        calls.succeeded("k", "healthy", wasFailing: false)
        #expect(calls.isEmpty)
        calls.failed("k", "a", "first", isGone: true)
        calls.succeeded("k", "a", wasFailing: false)
        #expect(calls.take() == [EndpointCalls.Call(kind: "k", name: "a", succeeded: true)])
        calls.succeeded("k", "a", wasFailing: true)
        calls.failed("k", "a", "later", isGone: false)
        #expect(calls.take() == [EndpointCalls.Call(kind: "k", name: "a", succeeded: true, failure: "later")])
        for number in 0...EndpointCalls.most { calls.failed("k", "\(number)", "no", isGone: false) }
        #expect(calls.take().count == EndpointCalls.most)
        #expect(calls.isEmpty)
    }
}
