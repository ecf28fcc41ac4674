import BreakwaterTesting
import Libpq
import Synchronization
import Testing

@testable import Breakwater

@Suite("A client's connections", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct ClientConnectionTests {
    private func withClient(
        connections: Int = 2,
        _ body: (BreakwaterClient, TestDatabase) async throws -> Void
    ) async throws {
        try await withTestDatabase { database in
            var options = database.options
            options.applicationName = "client under test"
            let client = try BreakwaterClient(options, connections: connections, logger: RecordedLog().logger())
            do { try await body(client, database) } catch {
                await client.close()
                throw error
            }
            await client.close()
        }
    }

    private struct Mistake: Error {}

    @Test("commit a transaction with its jobs, or neither")
    func transactions() async throws {
        try await withClient { client, database in
            try await database.query("create table customer (name text primary key deferrable initially deferred)")
            let id = try await client.withTransaction { transaction in
                _ = try await transaction.query("insert into customer values ('ada')")
                let id = try await transaction.enqueue(kind: "k")
                #expect(try await database.count("job") == 0)
                return id
            }
            #expect(try await database.numbers("select id from breakwater.job") == [id])
            await #expect(throws: Mistake.self) {
                try await client.withTransaction { transaction in
                    try await transaction.enqueue(kind: "k")
                    throw Mistake()
                }
            }
            // An error that the body swallows fails the transaction all the same.
            let failed = await #expect(throws: PostgresError.self) {
                try await client.withTransaction { transaction in
                    try await transaction.enqueue(kind: "k")
                    _ = try? await transaction.query("select 1 / 0")
                }
            }
            #expect(failed?.sqlState == "25P02")
            // And so does a constraint that is checked at the commit.
            let refused = await #expect(throws: PostgresError.self) {
                try await client.withTransaction { transaction in
                    _ = try await transaction.query("insert into customer values ('ada')")
                    try await transaction.enqueue(kind: "k")
                }
            }
            #expect(refused?.sqlState == "23505")
            #expect(try await database.count("job") == 1)
            // All of them left the connections as good as before.
            for _ in 0..<4 { try await client.enqueue(kind: "k") }
            #expect(try await database.count("job") == 5)
        }
    }

    @Test("roll a transaction back whose task is cancelled")
    func cancelledTransaction() async throws {
        try await withClient(connections: 1) { client, database in
            let began = AsyncEvent()
            // Unstructured, because the test cancels it alone. It is awaited below.
            let task = Task {
                try await client.withTransaction { transaction in
                    try await transaction.enqueue(kind: "k")
                    began.raise()
                    try await untilCancelled()
                }
            }
            await began.wait()
            task.cancel()
            await #expect(throws: CancellationError.self) { try await task.value }
            try await client.enqueue(kind: "after")
            #expect(try await database.texts("select kind from breakwater.job") == ["after"])
        }
    }

    @Test("are never more than allowed, and serve calls in their order")
    func limit() async throws {
        try await withClient(connections: 2) { client, database in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<50 { group.addTask { _ = try await client.enqueue(kind: "k") } }
                try await group.waitForAll()
            }
            #expect(try await database.count("job") == 50)
            guard !TestDatabase.isPooled else { return }
            let sessions = "select count(*) from pg_stat_activity where application_name = 'client under test'"
            #expect((1...2).contains(try await database.number(sessions + " and datname = current_database()")))
            await client.close()
            try await waitUntil("the sessions end") {
                try await database.number(sessions + " and datname = current_database()") == 0
            }
            let closed = await #expect(throws: BreakwaterError.self) { try await client.enqueue(kind: "k") }
            #expect(closed?.code == .closed)
        }
    }

    @Test("are replaced when they are lost", .disabled(if: TestDatabase.isPooled, "a pooler hides the loss"))
    func loss() async throws {
        try await withClient(connections: 1) { client, database in
            try await client.enqueue(kind: "k")
            try await database.query(
                """
                select pg_terminate_backend(pid, 10000) from pg_stat_activity
                where application_name = 'client under test' and datname = current_database()
                """
            )
            try await waitUntil("the next call connects again") {
                (try? await client.enqueue(kind: "k")) != nil
            }
            // A session that ends within a transaction: the job is not there, and the error says so.
            let lost = await #expect(throws: PostgresError.self) {
                try await client.withTransaction { transaction in
                    try await transaction.enqueue(kind: "lost")
                    try await database.query("select pg_terminate_backend($1, 10000)", [.int4(transaction.backendPID)])
                    try await transaction.enqueue(kind: "lost")
                }
            }
            #expect(lost != nil)
            try await client.enqueue(kind: "k")
            #expect(try await database.number("select count(*) from breakwater.job where kind = 'lost'") == 0)
        }
    }

    /// Another client of Postgres, which writes the values into the SQL instead of sending them beside it.
    private struct QuotingDatabase: JobDatabase {
        var connection: Connection

        func texts(of statement: TextStatement) async throws -> [String?] {
            var sql = statement.sql
            for (index, binding) in statement.bindings.enumerated().reversed() {
                let value = binding.map { text in
                    let escaped = text.map { $0 == "'" ? "''" : $0 == "\\" ? "\\\\" : "\($0)" }.joined()
                    return " E'\(escaped)'"
                }
                sql = sql.replacing("$\(index + 1)", with: value ?? "null")
            }
            return try await connection.query(sql).map { try $0[0].stringOrNil() }
        }
    }

    @Test("may be another client's: its statements need texts alone")
    func otherClient() async throws {
        try await withTestDatabase { database in
            let other = QuotingDatabase(connection: database.connection)
            let payload = #"it's a "test" with \ and ümläuts"#
            let first = try await other.enqueue(JobKind<String>("k"), payload, priority: 1, uniqueKey: "it's")
            let ids = try await other.enqueueMany("k", [payload, ""], after: [first], onDead: .run)
            #expect(ids.count == 2)
            #expect(try await other.job(first)?.payload == other.job(ids[0])?.payload)
            try await other.pause(.kind("k"), reason: "it's late")
            #expect(try await other.resume(.kind("k")))
            #expect(try await other.cancelJob(ids[0]))
            #expect(try await other.deadLetters().map(\.id) == [ids[0]])
            let batch = try await other.makeBatch(callback: "k", [String: Int](), isOpen: true)
            #expect(try await other.closeBatch(batch))
            try await other.set(Schedule(name: "s", .every(.seconds(60)), kind: "k"))
            #expect(try await other.removeSchedule("s"))
        }
    }
}
