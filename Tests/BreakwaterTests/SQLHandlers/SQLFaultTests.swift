import BreakwaterSQL
import BreakwaterTesting
import Foundation
import Libpq
import Synchronization
import Testing

@testable import Breakwater

@Suite("Each job of a SQL handler takes effect exactly once", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct SQLFaultTests {
    private func handler(_ sql: SQLHandlerDatabase, to options: ConnectionOptions? = nil) throws -> HandlerRegistration
    {
        try sql.handler("pay", to: options) {
            $0.retry.maxAttempts = 1000
            $0.retry.base = .milliseconds(10)
            $0.retry.cap = .milliseconds(100)
        }
    }

    /// Expects each of the jobs to be in the ledger once, and nowhere else.
    private func expectOnce(_ count: Int, _ sql: SQLHandlerDatabase) async throws {
        #expect(try await sql.ledger() == (count, count))
        #expect(try await sql.letters() == [])
    }

    @Test("while its sessions are terminated")
    func terminated() async throws {
        try await withSQLHandlers { sql in
            let count = 2000
            try await sql.enqueue(count: count)
            let terminated = Atomic(0)
            try await sql.database.withWorker([handler(sql)]) {
                // Sessions that are ended faster than they are made would do nothing.
                var next = 20
                try await waitUntil("all jobs have ended") {
                    let entries = try await sql.ledger().entries
                    if entries >= next {
                        next = entries + 50
                        let ended = try await sql.database.number(
                            """
                            select count(*) filter (where pg_terminate_backend(pid)) from pg_stat_activity
                             where datname = current_database() and application_name = 'breakwater sql'
                            """
                        )
                        terminated.add(ended, ordering: .relaxed)
                    }
                    return try await sql.database.count("job") == 0
                }
            }
            #expect(terminated.load(ordering: .relaxed) > 10)
            try await expectOnce(count, sql)
        }
    }

    @Test("while answers to COMMIT are lost")
    func lostCommits() async throws {
        try await withSQLHandlers { sql in
            let port = try #require(URLComponents(string: sql.database.directURL)?.port)
            let proxy = try CountingProxy(server: UInt16(port))
            defer { proxy.stop() }
            let options = ConnectionOptions(
                sql.database.directURL,
                keywords: ["hostaddr": "127.0.0.1", "port": "\(proxy.port)"]
            )
            proxy.losesCommits.store(true, ordering: .relaxed)
            let count = 300
            try await sql.enqueue(count: count)
            try await sql.database.withWorker([handler(sql, to: options)]) { try await sql.waitUntilDone() }
            #expect(proxy.lostCommits.load(ordering: .relaxed) > 20)
            try await expectOnce(count, sql)
            // Each job has run once, because the loss of an answer undoes nothing.
            #expect(try await sql.database.number("select last_value from app.run") == count)
        }
    }

    @Test("while the server crashes", .enabled(if: !CrashServer.programs.isEmpty, "BREAKWATER_PG_BIN is not set"))
    func crashes() async throws {
        try await CrashServer.with { server in
            let database = try await server.database()
            let count = 3000
            try await withSQLHandlers(in: database) { sql in
                try await sql.enqueue(count: count)
                let handler = try handler(sql)
                try await database.withWorker([handler]) {
                    var crashes = 0
                    try await waitUntil("all jobs have ended") {
                        var current = SQLHandlerDatabase(database: try await server.database(), role: sql.role)
                        let entries = try await current.ledger().entries
                        if crashes < 3, entries > crashes * count / 4 {
                            crashes += 1
                            try await server.crash()
                            try await server.start()
                            current.database = try await server.database()
                        }
                        let left = try await current.database.count("job")
                        await current.database.connection.close()
                        return left == 0
                    }
                    #expect(crashes == 3)
                    let last = SQLHandlerDatabase(database: try await server.database(), role: sql.role)
                    try await expectOnce(count, last)
                    await last.database.connection.close()
                }
            }
        }
    }
}
