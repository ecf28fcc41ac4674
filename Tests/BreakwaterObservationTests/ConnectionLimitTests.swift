import BreakwaterTesting
import Logging
import ServiceLifecycle
import TestPrograms
import Testing

@testable import Breakwater
@testable import BreakwaterEndpoints

@Suite("The connections of a server")
struct ConnectionLimitTests {
    private let here = ClientAddress("192.0.2.1")
    private let there = ClientAddress("192.0.2.2")

    @Test("a new one is always accepted, and the one that was silent longest is closed for it")
    func oldest() {
        var table = ConnectionTable(most: 3, mostOfClient: 3)
        for id in 1...3 { #expect(table.open(id, client: here) == nil) }
        table.mark(1, isBusy: true)
        #expect(table.open(4, client: there) == 2, "a request that is answered stays")
        table.mark(1, isBusy: false)
        #expect(table.open(5, client: there) == 3)
        #expect(table.open(6, client: there) == 4, "it was silent for longer than the first, which just had an answer")
        for id in [1, 5, 6] { table.mark(id, isBusy: true) }
        #expect(table.open(7, client: there) == 1, "where all are busy, the oldest of these")
        #expect(table.count == 3)
    }

    @Test("one client's new connections replace its own, and leave those of other clients alone")
    func ofClient() {
        var table = ConnectionTable(most: 10, mostOfClient: 2)
        #expect(table.open(1, client: there) == nil)
        for id in 2...3 { #expect(table.open(id, client: here) == nil) }
        for id in 4...100 { #expect(table.open(id, client: here) == id - 2) }
        #expect(table.count == 3)
        table.close(100)
        #expect(table.open(101, client: here) == nil)
        for id in 201...207 { #expect(table.open(id, client: nil) == nil, "a trusted proxy's count in all only") }
        #expect(table.open(208, client: nil) == 99, "the client with the most connections loses one first")
        #expect(table.open(209, client: nil) == 1)
    }

    @Test("random events never make it hold too many connections, or forget an open one")
    func random() {
        var generator = SystemRandomNumberGenerator()
        let seed = UInt64.random(in: 0 ... .max, using: &generator)
        var source = Seeded(state: seed)
        let clients = [here, there, ClientAddress("2001:db8::1"), nil]
        var table = ConnectionTable(most: 20, mostOfClient: 6)
        var open: [Int: ClientAddress?] = [:]
        for id in 1...5000 {
            let client = clients[Int.random(in: 0..<clients.count, using: &source)]
            if let leaving = table.open(id, client: client) {
                #expect(open.removeValue(forKey: leaving) != nil, "seed \(seed)")
            }
            open[id] = client
            if let id = open.keys.sorted().randomElement(using: &source), Bool.random(using: &source) {
                table.mark(id, isBusy: Bool.random(using: &source))
            }
            if let id = open.keys.sorted().randomElement(using: &source), Int.random(in: 0..<4, using: &source) == 0 {
                table.close(id)
                open[id] = nil
            }
            #expect(table.count == open.count && open.count <= 20, "seed \(seed)")
            for client in clients where client != nil {
                #expect(open.values.count { $0 == client } <= 6, "seed \(seed)")
            }
        }
    }

    private struct Seeded: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return state ^ state >> 29
        }
    }

    @Test("each part of a request has its own time limit, which a byte now and then does not extend")
    func phases() {
        var limits = ConnectionLimits(most: 1, mostOfClient: 1, answerTime: .seconds(3))
        (limits.headTime, limits.bodyTime, limits.idleTime) = (.seconds(1), .seconds(2), .seconds(4))
        var phase = ConnectionPhase()
        #expect(phase.kind == .waiting && phase.time(limits) == .seconds(1))
        phase.head()
        #expect(phase.kind == .receiving && phase.time(limits) == .seconds(2))
        phase.end()
        #expect(phase.kind == .answering && phase.time(limits) == .seconds(3))
        phase.answered()
        #expect(phase.kind == .waiting && phase.time(limits) == .seconds(4))
        phase.head()
        phase.answered()
        #expect(phase.kind == .receiving, "what was refused early is still being sent")
        phase.end()
        #expect(phase.kind == .waiting)
    }

    @Test("they are limited to a share of the available descriptors")
    func share() {
        #expect(ConnectionLimits.share(oneOf: 8, atMost: 256, descriptors: 1024) == 128)
        #expect(ConnectionLimits.share(oneOf: 8, atMost: 256, descriptors: .max) == 256)
        #expect(ConnectionLimits.share(oneOf: 8, atMost: 256, descriptors: 10) == 8)
    }

    @Test("addresses and networks are read, and told apart")
    func addresses() throws {
        #expect(ClientAddress("::ffff:127.0.0.1") == ClientAddress("127.0.0.1"))
        #expect(ClientAddress("2001:db8::1")?.client == ClientAddress("2001:db8::ffff:1")?.client)
        #expect(ClientAddress("2001:db8:0:1::1")?.client != ClientAddress("2001:db8:0:2::1")?.client)
        #expect(here?.client == here && here?.description == "192.0.2.1")
        for (range, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"), ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.0/25", "192.0.2.127", "192.0.2.128"), ("fd00::/8", "fd12::1", "fe00::1"),
            ("0.0.0.0/0", "255.1.1.1", "::1"), ("::1/128", "::1", "::2"),
        ] {
            let range = try #require(AddressRange(range))
            #expect(range.contains(try #require(ClientAddress(inside))), "\(inside)")
            #expect(!range.contains(try #require(ClientAddress(outside))), "\(outside)")
        }
        for bad in ["", "here", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "::1/129", "10.0.0.0/8/8"] {
            #expect(AddressRange(bad) == nil, "\(bad)")
        }
    }

    /// Runs the endpoints without a running worker.
    private func withServer(
        _ change: (inout ConnectionLimits) -> Void = { _ in },
        _ body: @escaping @Sendable (Int) async throws -> Void
    ) async throws {
        let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let (ports, continuation) = AsyncStream.makeStream(of: Int.self)
        var server = EndpointServer(
            address: ListenAddress(host: "127.0.0.1", port: 0),
            health: WorkerHealth(),
            metrics: { String(repeating: "# a line of a metric\n", count: 1_000_000) },
            logger: silent,
            onRunning: { continuation.yield($0) }
        )
        change(&server.limits)
        let group = ServiceGroup(services: [server], logger: silent)
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            tasks.addTask {
                guard let port = await ports.first(where: { _ in true }) else { throw CancellationError() }
                try await body(port)
                await group.triggerGracefulShutdown()
            }
            try await tasks.waitForAll()
        }
    }

    /// The first half of a request.
    private static let half = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Slow: "

    @Test("while 1,200 half-sent requests of one address or of many hold all connections, a health check is answered")
    func flood() async throws {
        let count = min(1200, RawClient.raiseDescriptorLimit() - 300)
        try #require(count > 200, "this process may have too few descriptors")
        for addresses in [1, 40] {
            try await withServer {
                ($0.most, $0.mostOfClient) = (128, 64)
                // The flood holds its connections, however long the test takes.
                $0.headTime = .seconds(600)
            } _: { port in
                var clients: [RawClient] = []
                for number in 0..<count {
                    let client = try RawClient(port: port, from: "127.0.0.\(2 + number % addresses)")
                    clients.append(client)
                    client.send(Self.half)
                    if number.isMultiple(of: 100) { await Task.yield() }
                }
                // On a busy machine, accepting and closing this number of connections takes minutes.
                try await waitUntil("a health check is answered meanwhile", deadline: .seconds(600)) {
                    for client in clients { client.send("a") }
                    return try await RawClient.get("/livez", port: port, within: .seconds(60))
                        .hasPrefix("HTTP/1.1 200")
                }
                try await waitUntil("there are no more than there may be", deadline: .seconds(600)) {
                    clients.count { !$0.isClosed } <= 128
                }
                let held = clients.count { !$0.isClosed }
                #expect(held >= (addresses == 1 ? 60 : 120), "the flood holds what it may")
                for source in ["127.0.0.1", "127.0.0.2"] {
                    let answer = try await RawClient.get("/livez", port: port, from: source, within: .seconds(600))
                    #expect(answer.hasPrefix("HTTP/1.1 200"), "\(answer)")
                }
            }
        }
    }

    @Test("a client that drips its head or its body, or takes no answer, is cut off")
    func slow() async throws {
        try await withServer { limits in
            (limits.headTime, limits.bodyTime, limits.answerTime) = (.seconds(1), .seconds(1), .seconds(1))
        } _: { port in
            let dripping = try RawClient(port: port)
            let posting = try RawClient(port: port)
            let deaf = try RawClient(port: port)
            let silent = try RawClient(port: port)
            try await waitUntil("it is connected") { dripping.send(Self.half) }
            try await waitUntil("it is connected") {
                posting.send("POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
            }
            try await waitUntil("it is connected") { deaf.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n") }
            try await waitUntil("they are cut off") {
                dripping.send("a")
                posting.send("a")
                return dripping.isClosed && silent.isClosed && !posting.send("a")
            }
            // Of the 21 megabytes, only as much arrives as fits into the kernel's buffers.
            let answer = try await deaf.answer(within: .seconds(60))
            #expect(deaf.isClosed && answer.utf8.count < 21_000_000)
        }
    }

    @Test("a client that keeps its connection asks many times, also after the time that a head may take")
    func keptAlive() async throws {
        try await withServer {
            $0.headTime = .seconds(2)
        } _: { port in
            let client = try RawClient(port: port)
            let start = ContinuousClock.now
            while ContinuousClock.now - start < .seconds(3) {
                try await waitUntil("it is connected") {
                    client.send("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
                }
                let answer = try await client.answer(endingWith: "ok\n", within: .seconds(60))
                #expect(answer.hasSuffix("ok\n"))
                try await Task.sleep(for: .milliseconds(500))
            }
            #expect(!client.isClosed)
        }
    }
}
