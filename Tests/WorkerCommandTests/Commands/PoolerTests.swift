import BreakwaterTesting
import Foundation
import Libpq
import TestPrograms
import Testing

@Suite(
    "A worker behind pgbouncer in transaction mode",
    .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"),
    .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)"),
    .enabled(if: Pooler.isInstalled, "there is no pgbouncer")
)
struct PoolerTests {
    private func file(poll: String, _ more: String = "") -> String {
        """
        poll_interval: \(poll)
        \(more)
        handlers: { echo: { exec: { command: [cat] }, keep_results: 1h } }
        """
    }

    private func done(_ database: TestDatabase) async throws -> Int {
        try await database.number("select count(*) from breakwater.result")
    }

    /// Runs a worker through the pooler during the body, and returns how it ended.
    private func withWorker(
        _ database: TestDatabase,
        _ pooler: Pooler,
        file: String,
        _ body: () async throws -> Void
    ) async throws -> WorkerBinary.Ending {
        try await withFile(file) { path in
            let run = try WorkerBinary.Run(["run", "--config", path, "--database", pooler.url(of: database)])
            do {
                try await body()
            } catch {
                run.signal(SIGKILL)
                let ending = try await run.end()
                Issue.record("\(error): \(ending.errors)")
                return ending
            }
            run.signal(SIGTERM)
            return try await run.end()
        }
    }

    @Test("runs jobs by polling, says why it gets no notifications, and leaves no trace on the shared session")
    func polls() async throws {
        try await withTestDatabase { database in
            try await Pooler.with { pooler in
                // The pooler has one session for all of the worker's connections.
                let ending = try await withWorker(database, pooler, file: file(poll: "100ms")) {
                    try await database.query(
                        "select breakwater.enqueue('echo', to_jsonb(n)) from generate_series(1, 20) n"
                    )
                    try await waitUntil("they run") { try await done(database) == 20 }
                    try await database.query("select breakwater.enqueue('echo', '21')")
                    try await waitUntil("it runs") { try await done(database) == 21 }
                    #expect(try await database.number("select count(*) from breakwater.sleeper") == 0)
                }
                #expect(ending.status == 0, "\(ending.errors)")
                #expect(ending.messages.count { $0.hasPrefix("a pooler is in front of the database") } == 1)

                let left = try await Connection.connect(
                    ConnectionOptions(pooler.url(of: database)),
                    logger: RecordedLog().logger()
                )
                #expect(left.isPooled)
                let traces = try await left.query(
                    """
                    select (select count(*) from pg_listening_channels())
                         + (select count(*) from pg_prepared_statements where name <> '')
                         + (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())
                         + (select count(*) from pg_class where relpersistence = 't')
                         + (select count(*) from pg_settings where source = 'session'
                             and name not in ('application_name', 'client_encoding', 'DateStyle', 'TimeZone',
                                              'standard_conforming_strings'))
                    """
                )
                #expect(try traces[0][0].int() == 0)
                await left.close()
            }
        }
    }

    @Test("is woken by the connection that listen_database gives it")
    func listens() async throws {
        try await withTestDatabase { database in
            try await Pooler.with { pooler in
                let file = file(poll: "1h", "listen_database: \"\(database.directURL)\"")
                let ending = try await withWorker(database, pooler, file: file) {
                    try await waitUntil("it sleeps") {
                        try await database.number("select count(*) from breakwater.sleeper") == 1
                    }
                    // After this pause, the worker's last claim before its sleep has ended.
                    try await Task.sleep(for: .milliseconds(1500))
                    for number in 1...3 {
                        try await database.query("select breakwater.enqueue('echo', '\(number)')")
                        try await waitUntil("job \(number) runs") { try await done(database) == number }
                    }
                }
                #expect(ending.status == 0, "\(ending.errors)")
                #expect(!ending.messages.contains { $0.contains("a pooler is in front of the database") })
            }
        }
    }

    /// A bug of pgbouncer 1.18: when a client closes between the answers to two calls, the next client gets its
    /// session.
    @Test("no client gets the answers of another that closed between two of its calls")
    func ownAnswers() async throws {
        try await withTestDatabase { database in
            try await Pooler.with { pooler in
                let options = ConnectionOptions(try pooler.url(of: database))
                for number in 1...20 {
                    let leaves = try await Connection.connect(options, logger: RecordedLog().logger())
                    let stays = try await Connection.connect(options, logger: RecordedLog().logger())
                    // The second call waits for this lock.
                    let holder = try await database.connectDirectly()
                    _ = try await holder.query("begin")
                    _ = try await holder.query("lock table breakwater.pause")
                    // Either of these may be sent first.
                    async let first = try? leaves.query("select 1")
                    async let second = try? leaves.query("select count(*) from breakwater.pause")
                    try await waitUntil("the second call waits for the lock") {
                        try await database.number(
                            "select count(*) from pg_locks where relation = 'breakwater.pause'::regclass and not granted"
                        ) == 1
                    }
                    await leaves.close()
                    async let answer = stays.query("select $1::int4", [.int4(Int32(number))])
                    _ = try await holder.query("commit")
                    #expect(try await answer[0][0].int() == number)
                    _ = await (first, second)
                    await stays.close()
                    await holder.close()
                }
            }
        }
    }
}

/// A pgbouncer that belongs to one test, in front of the tests' server. All its clients share one session.
struct Pooler: Sendable {
    private let port: Int

    private static let program = "/usr/sbin/pgbouncer"
    static var isInstalled: Bool { FileManager.default.isExecutableFile(atPath: program) }

    func url(of database: TestDatabase) throws -> String {
        var parts = try #require(URLComponents(string: database.directURL))
        parts.port = port
        return try #require(parts.string)
    }

    static func with(_ body: (Pooler) async throws -> Void) async throws {
        let server = ProcessInfo.processInfo.environment["BREAKWATER_TEST_DATABASE"] ?? ""
        let parts = try #require(URLComponents(string: server))
        let directory = FileManager.default.temporaryDirectory.appending(path: "breakwater-pooler-\(UUID())")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        for attempt in 1... {
            let port = Int.random(in: 20_000..<32_000)
            try """
            [databases]
            * = host=\(parts.host ?? "127.0.0.1") port=\(parts.port ?? 5432) user=\(parts.user ?? "postgres")
            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = \(port)
            unix_socket_dir =
            auth_type = any
            pool_mode = transaction
            default_pool_size = 1
            """.write(to: directory.appending(path: "ini"), atomically: false, encoding: .utf8)
            // pgbouncer refuses to run as root.
            let account = getuid() == 0 ? ["--user=nobody"] : []
            let process = try Child(
                program,
                account + [directory.appending(path: "ini").path],
                output: .null,
                errors: .null
            )
            defer { process.signal(SIGKILL) }
            let pooler = Pooler(port: port)
            let isUp = try await pooler.answers(server) { process.isRunning }
            if isUp { return try await body(pooler) }
            // Another process may have taken the port.
            if attempt == 5 { throw CocoaError(.fileReadUnknown) }
        }
    }

    private func answers(_ server: String, isRunning: () -> Bool) async throws -> Bool {
        var parts = try #require(URLComponents(string: server))
        parts.port = port
        let options = ConnectionOptions(try #require(parts.string))
        for _ in 0..<300 {
            if !isRunning() { return false }
            if let connection = try? await Connection.connect(options, logger: RecordedLog().logger()) {
                await connection.close()
                return connection.isPooled
            }
            try await Task.sleep(for: .milliseconds(100))
        }
        return false
    }
}
