import Breakwater
import BreakwaterTesting
import Libpq
import Logging
import ServiceLifecycle
import Testing

@testable import BreakwaterHTTP

@Suite(
    "The directory of endpoints",
    .enabled(if: TestDatabase.isAvailable, "BREAKWATER_TEST_DATABASE is not set")
)
struct EndpointDirectoryTests {
    private func with(
        _ database: TestDatabase,
        freshness: Duration = .seconds(5),
        _ body: (EndpointDirectory) async throws -> Void
    ) async throws {
        let directory = EndpointDirectory(freshness: freshness)
        directory.use(database.options, logger: Logger(label: "test"))
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
            // A row is read again each time if that is possible.
            try await with(database, freshness: .zero) { directory in
                #expect(url(await directory.find("acme", within: .seconds(60))) == "https://acme.example/")
                try await database.query("alter function breakwater.endpoints_named rename to endpoints_gone")
                let other = url(await directory.find("other", within: .seconds(4)))
                #expect(other.hasPrefix("unreachable: ") && other.contains("endpoints_named"))
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
                // Unstructured, because it is cancelled by itself. It is awaited below.
                let search = Task { url(await directory.find("acme", within: .seconds(600))) }
                try await waitUntil("it waits for a row") { directory.waiting == 1 }
                search.cancel()
                #expect(await search.value == "cancelled")
            }
            let idle = EndpointDirectory(database: database.options)
            #expect(url(await idle.find("acme", within: .milliseconds(200))).contains("not running beside the worker"))
        }
    }

    @Test("a missing or disabled endpoint is not taken from old rows while the database does not answer")
    func staleRefusals() async throws {
        try await withTestDatabase { database in
            try await database.setEndpoint("off", "https://off.example/")
            try await database.query("select breakwater.disable_endpoint('off', 'unpaid')")
            try await with(database) { directory in
                #expect(url(await directory.find("other", within: .seconds(60))) == "none")
                #expect(url(await directory.find("off", within: .seconds(60))) == "https://off.example/")
                try await database.query("alter function breakwater.endpoints_named rename to endpoints_gone")
                for name in ["other", "off"] {
                    let answer = url(await directory.find(name, within: .seconds(4)))
                    #expect(answer.hasPrefix("unreachable: "), "\(name): \(answer)")
                }
            }
        }
    }

    @Test("rows that were read stay, however many endpoints are searched for that do not exist")
    func manyMissing() async throws {
        try await withTestDatabase { database in
            try await database.setEndpoint("acme", "https://acme.example/")
            try await with(database, freshness: .zero) { directory in
                #expect(url(await directory.find("acme", within: .seconds(60))) == "https://acme.example/")
                // This is more than the most rows that are kept.
                await withTaskGroup(of: Void.self) { group in
                    for number in 0...10_000 {
                        group.addTask { _ = await directory.find("missing\(number)", within: .seconds(60)) }
                    }
                }
                try await database.query("alter function breakwater.endpoints_named rename to endpoints_gone")
                #expect(url(await directory.find("acme", within: .seconds(60))) == "https://acme.example/")
            }
        }
    }

    @Test("a kind that is registered before its handler is registered again, and its disabled endpoints are held")
    func handlerComesLater() async throws {
        try await withTestDatabase { database in
            try await database.setEndpoint("off", "https://off.example/")
            try await database.query("select breakwater.disable_endpoint('off', 'unpaid')")
            var settings = HandlerSettings()
            settings.circuit.key = .path(["to"])
            let handler = HandlerRegistration(
                kind: "hook",
                plugin: ClosureHandler { _, _ in .succeeded() },
                settings: settings
            )
            try await with(database) { directory in
                directory.register("hook", path: ["to"], rule: EndpointRule())
                try await waitUntil("the kind is registered") {
                    try await database.number("select count(*) from breakwater.endpoint_kind") == 1
                }
                try await database.withWorker([handler]) {
                    try await waitUntil("the endpoint's circuit is held") {
                        try await database.number(
                            "select count(*) from breakwater.circuit where key = 'off' and override = 'open'"
                        ) == 1
                    }
                }
            }
        }
    }

    @Test("rows are read although a kind cannot be registered")
    func registrationFails() async throws {
        try await withTestDatabase { database in
            try await database.setEndpoint("acme", "https://acme.example/")
            try await database.query("alter function breakwater.register_endpoint_kinds rename to register_gone")
            try await with(database) { directory in
                directory.register("hook", path: ["to"], rule: EndpointRule())
                for _ in 0..<3 {
                    #expect(url(await directory.find("acme", within: .seconds(8))) == "https://acme.example/")
                }
            }
        }
    }

    @Test("a success shortly after a failure is reported, at the latest when the directory ends")
    func successAfterFailure() async throws {
        try await withTestDatabase { database in
            try await database.setEndpoint("acme", "https://acme.example/")
            let failing = "select count(*) from breakwater.endpoint where failing_since is not null"
            let directory = EndpointDirectory(database: database.options)
            let services = ServiceGroup(services: [directory], logger: Logger(label: "test"))
            async let ended: Void = services.run()
            directory.failed("hook", "acme", "no", isGone: false)
            try await waitUntil("the failure is reported") { try await database.number(failing) == 1 }
            // The row that this worker read last did not say that the endpoint was failing.
            directory.succeeded("hook", "acme", wasFailing: false)
            await services.triggerGracefulShutdown()
            try await ended
            #expect(try await database.number(failing) == 0)
        }
    }

    @Test(
        "calls are reported as changes: failures at once, with the success before them; other successes once a minute"
    )
    func calls() {
        let start = ContinuousClock.now
        func after(_ seconds: Int) -> ContinuousClock.Instant { start + .seconds(seconds) }
        func call(_ name: String, _ succeeded: Double?, _ failure: String? = nil, _ failed: Double? = nil)
            -> EndpointCalls.Call
        {
            EndpointCalls.Call(kind: "k", name: name, succeededAgo: succeeded, failure: failure, failedAgo: failed)
        }
        var calls = EndpointCalls()
        calls.succeeded("k", "healthy", wasFailing: false, at: start)
        calls.succeeded("k", "healthy", wasFailing: false, at: after(50))
        #expect(!calls.isDue(at: after(59)) && calls.take(at: after(59)).isEmpty)
        #expect(calls.isDue(at: after(60)))
        #expect(calls.take(at: after(60)).calls == [call("healthy", 10)])
        #expect(!calls.isDue(at: after(600)))

        calls.failed("k", "a", "first", isGone: true, at: start)
        #expect(calls.isDue(at: start))
        calls.succeeded("k", "a", wasFailing: false, at: after(1))
        #expect(calls.take(at: after(2)).calls == [call("a", 1)])
        calls.succeeded("k", "a", wasFailing: true, at: after(3))
        calls.failed("k", "a", "then", isGone: false, at: after(4))
        calls.failed("k", "a", "later", isGone: false, at: after(5))
        let batch = calls.take(at: after(6))
        #expect(batch.calls == [call("a", 3, "later", 2)])

        // What could not be reported is kept.
        calls.failed("k", "a", "last", isGone: false, at: after(7))
        calls.putBack(batch)
        #expect(calls.take(at: after(8)).calls == [call("a", 5, "last", 4)])

        // A success after the last report of failures is not lost, and the last report has everything.
        calls.succeeded("k", "a", wasFailing: false, at: after(9))
        #expect(calls.take(at: after(10)).isEmpty)
        #expect(calls.take(at: after(10), isLast: true).calls == [call("a", 1)])

        for number in 0...EndpointCalls.most { calls.failed("k", "\(number)", "no", isGone: false, at: start) }
        #expect(calls.take(at: start).calls.count == EndpointCalls.most)
        #expect(!calls.isDue(at: start))
    }
}
