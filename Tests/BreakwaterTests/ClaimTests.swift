import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("Claiming", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct ClaimTests {
    /// Reads a counter of `pg_stat_user_tables` for the table of jobs, after this server's sessions have flushed
    /// theirs.
    private func statistic(_ column: String, _ database: TestDatabase) async throws -> Int {
        try await database.number(
            "select \(column)::int8 from pg_stat_user_tables where relid = 'breakwater.job'::regclass"
        )
    }

    private func flush(_ connections: Connection...) async throws {
        for connection in connections {
            _ = try await connection.query("select pg_stat_force_next_flush()")
            // A session sends its statistics at the end of the next transaction.
            _ = try await connection.query("select 1")
        }
    }

    @Test("gives a job to its worker under a new lease, and counts the attempt")
    func claims() async throws {
        try await withTestDatabase { database in
            try await database.insert(3)
            let worker = try await HandWorker(database)
            let jobs = try await worker.claim(2)
            #expect(jobs.map(\.id) == [1, 2])
            #expect(jobs.allSatisfy { $0.attempt == 1 && $0.lease == jobs[0].lease && !$0.isProbe })
            #expect(
                try await database.numbers("select job from breakwater.held where worker = \(worker.id) order by job")
                    == [
                        1, 2,
                    ]
            )
            #expect(try await database.numbers("select unnest(jobs) from breakwater.claim") == [1, 2])
            #expect(
                try await database.texts("select state from breakwater.job_status order by id").prefix(2) == [
                    "running", "running",
                ]
            )
            #expect(try await worker.claim().map(\.id) == [3])
            #expect(try await worker.claim().isEmpty)
        }
    }

    @Test("changes no job, and keeps one row of a lane when all has ended")
    func writesNoJob() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.insert(5000)
            let rows =
                "select md5(string_agg(format('%s %s %s', j.ctid, j.xmin, j.xmax), ',' order by j.id)) from breakwater.job j"
            let before = try await database.text(rows)
            var leases: Set<Int64> = []
            var claimed: [Job] = []
            while true {
                let jobs = try await worker.claim(500)
                if jobs.isEmpty { break }
                leases.insert(jobs[0].lease)
                claimed += jobs
            }
            #expect(claimed.count == 5000 && leases.count == 10)
            #expect(try await database.text(rows) == before)
            try await worker.settle(claimed, claims: leases.sorted())
            #expect(try await database.count("job") == 0)
            #expect(try await database.count("claim") == 1)
            #expect(try await database.claimsWithJobs() == 0)
            // The row of the next claim replaces this one.
            try await database.insert(1)
            let next = try await worker.claim()
            #expect(try await database.numbers("select lease from breakwater.claim") == next.map(\.lease))
        }
    }

    @Test(
        "stays on the lane index, with no statistics, with those of an empty table, and with stale ones",
        arguments: [
            "select 1",
            "analyze breakwater.job",
            """
            insert into breakwater.job (kind) select 'gone' from generate_series(1, 3000);
            analyze breakwater.job; delete from breakwater.job; vacuum breakwater.job
            """,
        ]
    )
    func plan(preparation: String) async throws {
        try await withTestDatabase { database in
            for statement in preparation.split(separator: ";") { try await database.query(String(statement)) }
            let worker = try await HandWorker(database, ["k", "other"])
            try await database.insert(3000)
            try await database.insert(3000, kind: "other")
            try await flush(database.connection)
            let before = try await statistic("seq_scan", database)
            let deleted = try await statistic("n_tup_del", database)
            // After this many rounds, the functions' statements would change to a generic plan.
            for round in 1...12 {
                let jobs = try await worker.claim(20, room: ["k": 15, "other": 20])
                #expect(jobs.count == 20, "round \(round)")
                try await worker.settle(jobs)
            }
            try await flush(worker.connection)
            try await waitUntil("the counters arrive") { try await statistic("n_tup_del", database) >= deleted + 240 }
            #expect(try await statistic("seq_scan", database) == before)
        }
    }

    /// The number of index entries and table rows that were read so far.
    private func reads(_ database: TestDatabase, _ connection: Connection) async throws -> Int {
        try await flush(connection)
        return try await database.number(
            """
            select (t.seq_tup_read + (select sum(i.idx_tup_read) from pg_stat_user_indexes i where i.relid = t.relid)
                   )::int8
              from pg_stat_user_tables t where t.relid = 'breakwater.job'::regclass
            """
        )
    }

    @Test(
        "claims and settles read a few rows with a plan that was made for a tiny table",
        arguments: ["select 1", "insert into breakwater.job (kind) values ('gone'); vacuum analyze breakwater.job"]
    )
    func oldPlan(preparation: String) async throws {
        try await withTestDatabase { database in
            for statement in preparation.split(separator: ";") { try await database.query(String(statement)) }
            // Autovacuum would make the session plan its statements again.
            try await database.query("alter table breakwater.job set (autovacuum_enabled = off)")
            let worker = try await HandWorker(database, ["k"])
            func round(_ count: Int) async throws {
                let jobs = try await worker.claim(count)
                #expect(jobs.count == count)
                try await worker.settle(jobs)
            }
            for _ in 1...12 {
                try await database.insert()
                try await round(1)
            }
            // These jobs come before and after the lane in every index.
            try await database.insert(20_000, kind: "a")
            try await database.insert(200)
            try await database.insert(20_000, kind: "z")
            try await flush(database.connection)
            let before = try await reads(database, worker.connection)
            for _ in 1...3 { try await round(20) }
            try await waitUntil("the counters arrive") {
                try await self.reads(database, worker.connection) > before
            }
            let read = try await reads(database, worker.connection) - before
            #expect(read < 2000, "\(read)")
        }
    }

    @Test("never gives more than the room of a kind, nor more than the total, however the plan turns out")
    func room() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, ["a", "b", "c"])
            for kind in ["a", "b", "c"] {
                try await database.insert(30, kind: kind)
                try await database.query(
                    "select breakwater.enqueue('\(kind)', priority => 1) from generate_series(1, 30)"
                )
            }
            let jobs = try await worker.claim(25, room: ["a": 10, "b": 0, "c": 40])
            #expect(jobs.count == 25)
            let kinds = Dictionary(grouping: jobs, by: \.kind).mapValues(\.count)
            #expect(kinds == ["a": 10, "c": 15])
            // Both kinds give their more important lane first.
            #expect(jobs.allSatisfy { $0.priority == 1 })
            #expect(try await worker.claim(7).count == 7)
            #expect(try await worker.claim(0).isEmpty)
        }
    }

    @Test("by many sessions at once never gives one job twice, and leaves none over")
    func concurrentClaims() async throws {
        try await withTestDatabase { database in
            try await database.insert(4000)
            let jobs = try await withThrowingTaskGroup(of: [Int64].self) { group in
                for _ in 0..<6 {
                    group.addTask {
                        let worker = try await HandWorker(database)
                        var ids: [Int64] = []
                        var misses = 0
                        while misses < 3 {
                            let jobs = try await worker.claim(37)
                            misses = jobs.isEmpty ? misses + 1 : 0
                            ids += jobs.map(\.id)
                        }
                        return ids
                    }
                }
                return try await group.reduce(into: []) { $0 += $1 }
            }
            #expect(jobs.count == 4000)
            #expect(Set(jobs).count == 4000)
            // Each job is held, and by one claim only.
            #expect(try await database.heldJobs().count == 4000)
        }
    }

    @Test("finds nothing behind the lane's cursor, except when it looks for late jobs")
    func cursor() async throws {
        try await withTestDatabase { database in
            let slow = try await database.connect()
            _ = try await slow.query("begin")
            _ = try await slow.query("insert into breakwater.job (kind) select 'k' from generate_series(1, 5)")
            try await database.insert(5)
            let worker = try await HandWorker(database)
            #expect(try await worker.claim(isLate: false).map(\.id) == [6, 7, 8, 9, 10])
            _ = try await slow.query("commit")
            #expect(try await worker.claim(isLate: false).isEmpty)
            #expect(try await worker.claim(3, isLate: true).map(\.id) == [1, 2, 3])
            #expect(try await worker.claim(isLate: true).map(\.id) == [4, 5])
            #expect(try await worker.claim(isLate: true).isEmpty)
        }
    }

    @Test("does not wait for a row that is locked: it takes the others")
    func lockedRows() async throws {
        try await withTestDatabase { database in
            try await database.insert(3)
            let other = try await database.connect()
            _ = try await other.query("begin")
            _ = try await other.query("select from breakwater.job where id = 2 for update")
            let worker = try await HandWorker(database)
            #expect(try await worker.claim().map(\.id) == [1, 3])
            _ = try await other.query("rollback")
            #expect(try await worker.claim().map(\.id) == [2])
        }
    }

    @Test("by a worker that was struck off gives nothing")
    func unregistered() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.insert()
            _ = try await worker.connection.call(Leave(worker: worker.id))
            #expect(try await worker.claim().isEmpty)
        }
    }

    @Test("gives nothing of a paused queue or kind, and goes on when it is resumed")
    func pauses() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, ["k", "other"], queues: ["default", "bulk"])
            func ids() async throws -> [Int64] {
                let jobs = try await worker.claim()
                try await worker.settle(jobs, .snoozed())
                return jobs.map(\.id).sorted()
            }
            for call in ["'k'", "'k', queue => 'bulk'", "'other'"] {
                try await database.query("select breakwater.enqueue(\(call))")
            }
            try await database.query("select breakwater.pause_kind('k', 'a look at it')")
            #expect(try await ids() == [3])
            let why = try await database.texts("select why from breakwater.job_status where kind = 'k' limit 1")
            #expect(why[0].contains("paused") && why[0].contains("a look at it"))
            try await database.query("select breakwater.pause_queue('default', 'too')")
            #expect(try await ids() == [])
            try await database.query("select breakwater.resume_kind('k')")
            #expect(try await ids() == [2])
            try await database.query("select breakwater.resume_queue('default')")
            #expect(try await ids() == [1, 2, 3])
            let again = try await database.query("select breakwater.resume_queue('default')")
            #expect(try !again[0][0].bool())
            let error = await postgresError { try await database.query("select breakwater.pause_kind('k', '')") }
            #expect(error?.message.contains("needs a name and a reason") == true)
        }
    }

    @Test("moves the lane's floor up to its cursor, once nothing can appear below it")
    func floor() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            func floor() async throws -> Int {
                try await database.number(
                    "select floor from breakwater.claim where lane is not null order by last desc, lease desc limit 1"
                )
            }
            try await database.insert(3000)
            #expect(try await worker.claim(2000).count == 2000)
            #expect(try await floor() < 0)
            try await database.query("select breakwater.record_horizon()")
            #expect(try await worker.claim(10).count == 10)
            #expect(try await floor() == 2010)
            // Held jobs cause no further search below the floor, and later jobs are found as before.
            #expect(try await worker.claim().map(\.id).first == 2011)
        }
    }

    @Test("works at the far end of the numbers")
    func largeNumbers() async throws {
        try await withTestDatabase { database in
            try await database.query("alter table breakwater.job alter column id restart with 9223372036854775000")
            try await database.query("alter sequence breakwater.job_position restart with 9223372036854775000")
            try await database.query("alter sequence breakwater.lease restart with 9223372036854775000")
            try await database.insert(5)
            let worker = try await HandWorker(database)
            let jobs = try await worker.claim()
            #expect(jobs.count == 5)
            try await worker.settle([jobs[0]], .failed())
            try await worker.settle(Array(jobs[1...]))
            #expect(try await worker.claim().map(\.id) == [9_223_372_036_854_775_000])
        }
    }
}
