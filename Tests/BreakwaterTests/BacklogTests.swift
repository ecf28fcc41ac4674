import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

/// Cases in which a backlog could slow down claims and maintenance. The tests count pages read, because that number
/// does not depend on the machine's load.
@Suite(
    "Claims and chores read no more pages",
    .enabled(if: TestDatabase.isAvailable, "\(needsServer)"),
    .disabled(if: TestDatabase.isPooled, "what a session has counted is only flushed by that session")
)
struct BacklogTests {
    /// Claims and settles jobs, and counts the pages that its sessions read.
    private struct Reader {
        let database: TestDatabase
        let worker: HandWorker

        init(_ database: TestDatabase) async throws {
            self.database = database
            worker = try await HandWorker(database)
            // The leader does this every second.
            try await database.query("select breakwater.record_horizon()")
        }

        /// Claims `count` jobs and settles them.
        func run(_ count: Int) async throws {
            let jobs = try await worker.claim(count, isLate: false)
            #expect(jobs.count == count)
            try await worker.settle(jobs, claims: Array(Set(jobs.map(\.lease))))
        }

        /// Returns how many pages of the table and its indexes ten rounds of 50 jobs read.
        func pages() async throws -> Int {
            let before = try await read()
            for _ in 1...10 { try await run(50) }
            return try await read() - before
        }

        /// Runs a failure, its retry, a job of a lost claim and the maintenance around them, and returns the pages
        /// read.
        func choresPages() async throws -> Int {
            let before = try await read()
            try await database.insert(3)
            let jobs = try await worker.claim(2)
            #expect(jobs.count == 2)
            try await worker.settle([jobs[0]], .failed(delay: .milliseconds(1)))
            _ = try await worker.call(Reconcile(worker: worker.id, known: []))
            try await Task.sleep(for: .milliseconds(2))
            let done = try await worker.maintain()
            #expect(done.leads && done.promoted == 1)
            try await worker.maintain()
            let rest = try await worker.claim(9)
            #expect(rest.count == 3)
            try await worker.settle(rest, claims: Array(Set(rest.map(\.lease))))
            return try await read() - before
        }

        private func read() async throws -> Int {
            // A session reports its counts when it becomes idle after this request.
            for connection in [worker.connection, database.connection] {
                _ = try await connection.query("select pg_stat_force_next_flush()")
                _ = try await connection.query("select 1")
            }
            return try await database.number(
                """
                select heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read
                  from pg_statio_user_tables where relid = 'breakwater.job'::regclass
                """
            )
        }
    }

    @Test("while a session holds a snapshot, however many jobs have ended since")
    func heldSnapshot() async throws {
        try await withTestDatabase { database in
            try await database.insert(12_000)
            let reader = try await Reader(database)
            let holder = try await database.connect()
            _ = try await holder.query("begin isolation level repeatable read")
            _ = try await holder.query("select count(*) from breakwater.job")
            let first = try await reader.pages()
            for _ in 1...20 { try await reader.run(500) }
            let last = try await reader.pages()
            #expect(last <= first * 3 / 2, "\(first), then \(last)")
            _ = try await holder.query("commit")
        }
    }

    @Test("in maintenance, when a session plans it with the statistics of a table that holds little but dead rows")
    func deadRows() async throws {
        try await withTestDatabase { database in
            // The pages that autovacuum reads would be counted too.
            try await database.query("alter table breakwater.job set (autovacuum_enabled = off)")
            try await database.insert(10_000)
            // The leader does this every second. It lets the lane's floor advance.
            try await database.query("select breakwater.record_horizon()")
            let reader = try await Reader(database)
            let holder = try await database.connect()
            _ = try await holder.query("begin isolation level repeatable read")
            _ = try await holder.query("select count(*) from breakwater.job")
            for _ in 1...20 { try await reader.run(500) }
            try await database.query("analyze breakwater.job")
            var pages = try await reader.choresPages()
            // The leader searches the lane for stranded jobs now and then, and that search reads the dead rows.
            for _ in 1...4 where pages >= 300 { pages = try await reader.choresPages() }
            #expect(pages < 300, "\(pages)")
            _ = try await holder.query("commit")
        }
    }

    @Test("where many jobs have been locked before, whatever the statistics say")
    func lockedOnce() async throws {
        try await withTestDatabase { database in
            // With the statistics of an empty table, every index looks as cheap as the primary key.
            try await database.query("alter table breakwater.job set (autovacuum_enabled = off)")
            try await database.query("analyze breakwater.job")
            try await database.insert(20_000)
            let reader = try await Reader(database)
            let without = try await reader.pages()
            try await database.query(
                "select count(*) from (select from breakwater.job order by position limit 500 for share) j"
            )
            let with = try await reader.pages()
            // Each job that was locked before is looked up by its id and locked.
            #expect(with <= without + 500 * 10, "\(without), then \(with)")
        }
    }

    @Test("while a transaction that changed something idles, however many jobs have ended since")
    func idleTransaction() async throws {
        try await withTestDatabase { database in
            try await database.insert(12_000)
            let reader = try await Reader(database)
            let holder = try await database.connect()
            _ = try await holder.query("begin")
            _ = try await holder.query("create temporary table held ()")
            let first = try await reader.pages()
            for _ in 1...20 { try await reader.run(500) }
            let last = try await reader.pages()
            #expect(last <= first * 3 / 2, "\(first), then \(last)")
            _ = try await holder.query("rollback")
        }
    }

    @Test("because of jobs that are scheduled for later")
    func scheduled() async throws {
        try await withTestDatabase { database in
            try await database.insert(2000)
            let reader = try await Reader(database)
            let without = try await reader.pages()
            try await database.query(
                """
                insert into breakwater.job (kind, run_at)
                select 'k', now() + interval '1 day' from generate_series(1, 50000)
                """
            )
            let with = try await reader.pages()
            #expect(with <= without * 3 / 2, "\(without), then \(with)")
        }
    }
}
