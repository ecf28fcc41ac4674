import Libpq
import Logging
import Synchronization
import Testing

@Suite("The server goes away, notifies and warns", .enabled(if: TestServer.isThere, TestServer.reason))
struct LossTests {
    private let big = "select n, repeat('x', 1000) from generate_series(1, 100000000) n"

    private func terminate(_ connection: Connection, by killer: Connection) async throws {
        _ = try await killer.query("select pg_terminate_backend($1)", [.int4(connection.backendPID)])
    }

    @Test func `a server that goes away mid-result fails every call and ends the notifications`() async throws {
        try await withConnection(TestServer.direct) { killer in
            let connection = try await Connection.connect(TestServer.direct, logger: TestServer.silent)
            let first = Task.immediate { try await connection.query(big) }
            let second = Task.immediate { try await connection.query("select 1") }
            let ends = Task { for await _ in connection.notifications {} }
            try await eventually {
                try await killer.query(
                    "select from pg_stat_activity where pid = $1 and state = 'active' and query like '%generate_series%'",
                    [.int4(connection.backendPID)]
                ).count == 1
            }
            try await terminate(connection, by: killer)
            let error = try await failure { _ = try await first.value }
            #expect(error.code == .connectionLost)
            #expect(!error.message.isEmpty)
            #expect(try await failure { _ = try await second.value }.code == .connectionLost)
            await ends.value
            #expect(connection.isClosed)
            #expect(await connection.waitUntilClosed().code == .connectionLost)
            #expect(try await failure { _ = try await connection.query("select 1") }.code == .connectionLost)
        }
    }

    @Test func `a session that is terminated says why`() async throws {
        try await withConnection(TestServer.direct) { killer in
            let connection = try await Connection.connect(TestServer.direct, logger: TestServer.silent)
            let call = Task.immediate { try await connection.query("select pg_sleep(60)") }
            try await eventually {
                try await killer.query(
                    "select from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'",
                    [.int4(connection.backendPID)]
                ).count == 1
            }
            try await terminate(connection, by: killer)
            let error = try await failure { _ = try await call.value }
            #expect(error.code == .connectionLost)
            #expect(error.sqlState == "57P01")
        }
    }

    @Test func `an idle session that is terminated is noticed without a call`() async throws {
        try await withConnection(TestServer.direct) { killer in
            let connection = try await Connection.connect(TestServer.direct, logger: TestServer.silent)
            try await terminate(connection, by: killer)
            let reason = await connection.waitUntilClosed()
            #expect(reason.code == .connectionLost)
            #expect(reason.sqlState == "57P01")
        }
    }

    @Test func `waiting for the end can be cancelled`() async throws {
        try await withConnection(TestServer.direct) { connection in
            let waiter = Task { await connection.waitUntilClosed() }
            waiter.cancel()
            #expect(await waiter.value.code == .cancelled)
        }
    }

    @Test func `notifications arrive on an idle connection, in order`() async throws {
        try await withConnection(TestServer.direct) { listener in
            try await withConnection(TestServer.direct) { sender in
                let channel = "Odd \"channel\" ž"
                try await listener.listen(channel)
                for payload in ["one", "", "three"] {
                    _ = try await sender.query("select pg_notify($1, $2)", [.text(channel), .text(payload)])
                }
                var received: [Notification] = []
                for await notification in listener.notifications {
                    received.append(notification)
                    if received.count == 3 { break }
                }
                #expect(received.map(\.payload) == ["one", "", "three"])
                #expect(received.allSatisfy { $0.channel == channel && $0.backendPID == sender.backendPID })
            }
        }
    }

    @Test func `a channel's name must have 1 to 63 bytes`() async throws {
        try await withConnection(TestServer.direct) { connection in
            for name in ["", String(repeating: "x", count: 64)] {
                #expect(try await failure { try await connection.listen(name) }.code == .invalidParameter)
            }
            try await connection.listen(String(repeating: "x", count: 63))
        }
    }

    @Test func `notices reach the logger by their severity`() async throws {
        let log = RecordingLog()
        let logger = Logger(label: "notices") { _ in log }
        try await withConnection(TestServer.direct, logger: logger) { connection in
            try await connection.script(
                """
                set client_min_messages = debug1;
                do $$ begin
                  raise warning 'careful' using hint = 'look'; raise notice 'by the way'; raise debug 'details';
                end $$
                """
            )
        }
        let said = log.lines
        #expect(said.contains("warning careful look 01000"))
        #expect(said.contains("notice by the way - 00000"))
        #expect(said.contains("debug details - 00000"))
    }
}

/// Keeps all log messages.
private final class RecordingLog: LogHandler, Sendable {
    private let recorded = Mutex<[String]>([])
    var lines: [String] { recorded.withLock { $0 } }

    var metadata: Logger.Metadata {
        get { [:] }
        set {}
    }
    var logLevel: Logger.Level {
        get { .trace }
        set {}
    }
    subscript(metadataKey _: String) -> Logger.Metadata.Value? {
        get { nil }
        set {}
    }

    func log(event: LogEvent) {
        let hint = event.metadata?["postgres.hint"].map { "\($0)" } ?? "-"
        let state = event.metadata?["postgres.sqlstate"].map { "\($0)" } ?? "-"
        recorded.withLock { $0.append("\(event.level) \(event.message) \(hint) \(state)") }
    }
}
