import Breakwater
import BreakwaterTesting
import Glibc
import Testing

@testable import BreakwaterHTTP

@Suite struct ConnectionTests {
    @Test func aRefusedConnectionIsUnavailable() async throws {
        let (listener, port) = try TestServer.listen()
        close(listener)
        let outcome = try await run(try HTTPPlugin(url: "http://127.0.0.1:\(port)"))
        #expect(outcome.outcomeClass == .unavailable)
        #expect(outcome.failure?.name == "http.connection")
    }

    @Test func aServerThatNeverAnswersIsUnavailableBeforeTheDeadline() async throws {
        let started = ContinuousClock.now
        let outcome = try await outcome(of: .never, within: .milliseconds(600))
        #expect(outcome.outcomeClass == .unavailable)
        #expect(outcome.failure?.name == "http.timeout")
        #expect(.now - started < .seconds(300))
        #expect(HTTPPlugin.timeoutMilliseconds(within: .milliseconds(600)) == 540)
        #expect(HTTPPlugin.timeoutMilliseconds(within: .seconds(10)) == 9750)
        #expect(HTTPPlugin.timeoutMilliseconds(within: .zero) == 1)
    }

    @Test func aConnectionThatNobodyAcceptsIsUnavailable() async throws {
        // The listener never accepts. The kernel completes the connection, and no answer comes.
        let (listener, port) = try TestServer.listen(backlog: 1)
        defer { close(listener) }
        let outcome = try await run(try HTTPPlugin(url: "http://127.0.0.1:\(port)"), within: .milliseconds(300))
        #expect(outcome.failure?.name == "http.timeout")
    }

    @Test func aSlowDripEndsAtTheDeadline() async throws {
        let outcome = try await outcome(of: .drip, within: .milliseconds(400))
        #expect(outcome.failure?.name == "http.timeout")
    }

    @Test(arguments: [
        TestServer.Reply.reset, .raw(""), .raw("HTTP/1.1 200 OK\r\n"), .raw("HTTP/1.1 404 X\r\nContent-Length: 0\r\n"),
        .raw("HTTP/1.1 200 OK\r\nRetry-Af"), .raw("HTTP/1.1 100 Continue\r\n\r\n"),
    ])
    func aConnectionThatBreaksIsUnavailable(reply: TestServer.Reply) async throws {
        let outcome = try await outcome(of: reply)
        #expect(outcome.outcomeClass == .unavailable)
        #expect(outcome.failure?.name == "http.connection")
    }

    @Test(
        "an answer whose body breaks off keeps its status, and its class unless it is a success",
        arguments: [
            (200, OutcomeClass.unavailable, "http.connection"), (404, .discarded, "http.404"),
            (429, .throttled, "http.429"), (500, .failed, "http.500"), (503, .unavailable, "http.503"),
        ]
    )
    func cutShort(status: Int, expected: OutcomeClass, name: String) async throws {
        for framing in ["Content-Length: 100\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n5\r\nhal"] {
            let outcome = try await outcome(of: .raw("HTTP/1.1 \(status) X\r\nRetry-After: 9\r\n\(framing)"))
            #expect(outcome.outcomeClass == expected)
            #expect(outcome.failure?.name == name)
            let message = try #require(outcome.failure?.message)
            #expect(message.contains("/ answered \(status), and the answer broke off"))
            if status != 200 { #expect(message.hasSuffix(framing.hasPrefix("C") ? ": half" : ": hal")) }
            if status == 429 { #expect(outcome.retryAfter == .seconds(9)) }
        }
    }

    @Test("one run sends one request, also when the server closes kept connections without an answer")
    func oneRequestForEachRun() async throws {
        try await withServer({ request in
            // Only jobs with this payload are answered.
            request.body == Array("1".utf8) ? .answer(200) : .raw("")
        }) { server in
            let plugin = try HTTPPlugin(url: server.url)
            // Several connections are kept, so a lost one could be replaced by another.
            try await withThrowingTaskGroup(of: JobOutcome.self) { group in
                for _ in 0..<8 { group.addTask { try await run(plugin, Job(kind: "test", payload: "1")) } }
                for try await outcome in group { #expect(outcome == .succeeded()) }
            }
            let (answered, opened) = (server.requests.count, server.connections)
            #expect(answered == 8)
            for attempt in 1...4 {
                let outcome = try await run(plugin, Job(kind: "test", payload: "2"))
                #expect(outcome.outcomeClass == .unavailable)
                #expect(outcome.failure?.name == "http.connection")
                #expect(server.requests.count == answered + attempt)
            }
            // No connection was opened only to have its request refused.
            #expect(server.connections <= opened + 4)
        }
    }

    @Test func anAnswerThatIsNotHTTPFails() async throws {
        let outcome = try await outcome(of: .raw("SSH-2.0-OpenSSH_9.2\r\n"))
        #expect(outcome.outcomeClass == .failed)
        #expect(outcome.failure?.name == "http.protocol")
    }

    @Test func aNameThatDoesNotExistIsUnavailable() async throws {
        // The top-level domain "invalid" never resolves (RFC 2606).
        let outcome = try await run(try HTTPPlugin(url: "http://no-such-host.invalid/"), within: .seconds(30))
        #expect(outcome.outcomeClass == .unavailable)
        #expect(["http.dns", "http.timeout"].contains(outcome.failure?.name))
    }

    @Test func aServerWithoutTLSIsUnavailable() async throws {
        try await withServer({ _ in .answer(200) }) { server in
            let outcome = try await run(try HTTPPlugin(url: "https://127.0.0.1:\(server.port)"))
            #expect(outcome.outcomeClass == .unavailable)
            #expect(outcome.failure?.name == "http.tls")
        }
    }

    @Test func connectionsAreUsedAgain() async throws {
        try await withServer({ _ in .answer(200, body: "{}") }) { server in
            let plugin = try HTTPPlugin(url: server.url)
            for _ in 0..<20 { #expect(try await run(plugin) == .succeeded(result: "{}")) }
            // Connections of other tests may push this one out of the pool.
            #expect(server.connections < 5)
        }
    }

    @Test func aConnectionThatTheServerClosedIsOpenedAnew() async throws {
        try await withServer({ _ in .raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") }) { server in
            let plugin = try HTTPPlugin(url: server.url)
            for _ in 0..<10 {
                #expect(try await run(plugin) == .succeeded(result: "{}"))
                // A request that meets the closing of its connection would be lost, and is not sent again.
                try await waitUntil("the connection is closed") { server.openConnections == 0 }
            }
        }
    }

    @Test func twoHundredRequestsAtOnce() async throws {
        let gate = Gate(count: 200)
        try await withServer({ request in
            // The server answers when every request has arrived, so all of them are in flight together.
            gate.arriveAndWait()
            return .answer(200, body: String(decoding: request.body, as: UTF8.self))
        }) { server in
            let plugin = try HTTPPlugin(url: server.url)
            try await withThrowingTaskGroup(of: Bool.self) { group in
                for number in 0..<200 {
                    group.addTask {
                        let outcome = try await run(plugin, Job(kind: "test", payload: "\(number)"))
                        return outcome == .succeeded(result: "\(number)")
                    }
                }
                for try await isRight in group { #expect(isRight) }
            }
            #expect(server.requests.count == 200)
        }
    }

    @Test("as many connections are kept as requests run at once")
    func keepsConnections() async throws {
        let gates = (0..<3).map { _ in Gate(count: 400) }
        try await withServer({ request in
            // The requests of a round are all in flight before the first is answered.
            gates[Int(String(decoding: request.body, as: UTF8.self)) ?? 0].arriveAndWait()
            return .answer(200)
        }) { server in
            let plugin = try HTTPPlugin(url: server.url)
            for round in gates.indices {
                try await withThrowingTaskGroup(of: JobOutcome.self) { group in
                    for _ in 0..<400 { group.addTask { try await run(plugin, Job(kind: "test", payload: "\(round)")) } }
                    for try await outcome in group { #expect(outcome == .succeeded()) }
                }
            }
            #expect(server.requests.count == 1200)
            // Requests of other tests may be in the way of a few.
            #expect(server.connections < 500)
        }
    }

    @Test func aCancelledRequestFreesItsConnection() async throws {
        try await withServer({ _ in .never }) { server in
            let plugin = try HTTPPlugin(url: server.url)
            let job = Task { try await run(plugin) }
            try await waitUntil("the request arrived") { server.requests.count == 1 }
            job.cancel()
            await #expect(throws: CancellationError.self) { try await job.value }
            try await waitUntil("the server sees the connection closed") { server.openConnections == 0 }
        }
    }

    @Test func cancellationAtAnyMomentEndsTheWait() async throws {
        try await withServer({ _ in .never }) { server in
            let plugin = try HTTPPlugin(url: server.url)
            await withTaskGroup(of: Void.self) { group in
                for number in 0..<100 {
                    group.addTask {
                        let job = Task { try await run(plugin) }
                        for _ in 0..<number { await Task.yield() }
                        job.cancel()
                        await #expect(throws: CancellationError.self) { try await job.value }
                    }
                }
            }
            try await waitUntil("no connection is left") { server.openConnections == 0 }
        }
    }

    @Test func aLargePayloadArrivesWhole() async throws {
        try await withServer({ .answer(200, body: "\($0.body.count)") }) { server in
            let payload = "\"" + String(repeating: "x", count: 10_000_000) + "\""
            let outcome = try await run(try HTTPPlugin(url: server.url), Job(kind: "test", payload: payload))
            #expect(outcome == .succeeded(result: "10000002"))
        }
    }
}
