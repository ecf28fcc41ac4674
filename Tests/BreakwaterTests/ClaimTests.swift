import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("Claiming", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct ClaimTests {
    /// A counter of `pg_stat_user_tables` for the table of jobs, with what this server's sessions hold back flushed.
    private func statistic(_ column: String, _ database: TestDatabase) async throws -> Int {
        try await database.number(
            "select \(column)::int8 from pg_stat_user_tables where relid = 'breakwater.job'::regclass"
        )
    }

    private func flush(_ connections: Connection...) async throws {
        for connection in connections {
            _ = try await connection.query("select pg_stat_force_next_flush()")
            // Statistics go out when the transaction after the request ends.
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
            let held = try await database.number("select count(*) from breakwater.job where worker = \(worker.id)")
            #expect(held == 2)
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

    @Test("is a heap-only update, every time")
    func heapOnly() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.insert(5000)
            var claimed = 0
            while true {
                let jobs = try await worker.claim(500)
                if jobs.isEmpty { break }
                claimed += jobs.count
            }
            #expect(claimed == 5000)
            try await flush(worker.connection)
            try await waitUntil("the counters arrive") { try await statistic("n_tup_upd", database) >= 5000 }
            let (all, hot) = (
                try await statistic("n_tup_upd", database), try await statistic("n_tup_hot_upd", database)
            )
            #expect(all == 5000)
            #expect(hot == all)
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
            // Often enough that the functions' statements would change to a generic plan.
            for round in 1...12 {
                let jobs = try await worker.claim(20, room: ["k": 15, "other": 20])
                #expect(jobs.count == 20, "round \(round)")
                try await worker.settle(jobs)
                _ = try await worker.connection.query(
                    "select * from breakwater.sweep('{default,default}', '{k,other}', '{5,5}', '{0,0}')"
                )
            }
            try await flush(worker.connection)
            try await waitUntil("the counters arrive") { try await statistic("n_tup_upd", database) >= 240 }
            #expect(try await statistic("seq_scan", database) == before)
        }
    }

    /// Entries of indexes and rows of the table that were read so far.
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
        "claims, settles and sweeps read a few rows with a plan that was made for a tiny table",
        arguments: ["select 1", "insert into breakwater.job (kind) values ('gone'); vacuum analyze breakwater.job"]
    )
    func oldPlan(preparation: String) async throws {
        try await withTestDatabase { database in
            for statement in preparation.split(separator: ";") { try await database.query(String(statement)) }
            // So that nothing makes the session plan anew.
            try await database.query("alter table breakwater.job set (autovacuum_enabled = off)")
            let worker = try await HandWorker(database, ["k"])
            func round(_ count: Int) async throws {
                let jobs = try await worker.claim(count)
                #expect(jobs.count == count)
                try await worker.settle(jobs)
                _ = try await worker.connection.query(
                    "select * from breakwater.sweep('{default}', '{k}', '{5}', '{0}')"
                )
            }
            for _ in 1...12 {
                try await database.insert()
                try await round(1)
            }
            // Before and behind the lane, in every index.
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
            // The more important lane first, for both.
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
            let twice = "select count(*) from breakwater.job where attempt <> 1 or worker is null"
            #expect(try await database.number(twice) == 0)
        }
    }

    @Test("finds nothing behind the cursor, and what is before it")
    func cursor() async throws {
        try await withTestDatabase { database in
            try await database.insert(10)
            let worker = try await HandWorker(database)
            let middle = try await database.number("select position from breakwater.job where id = 5")
            #expect(try await worker.claim(after: Int64(middle)).map(\.id) == [6, 7, 8, 9, 10])
            #expect(try await worker.claim().map(\.id) == [1, 2, 3, 4, 5])
        }
    }

    @Test("does not wait for a row that somebody has locked: it takes the others")
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

    @Test("a sweep tells each lane's first ready job above its floor, and what draws the positions")
    func sweep() async throws {
        try await withTestDatabase { database in
            try await database.insert(3)
            try await database.insert(2, kind: "other")
            let lanes = ["none", "other", "k"].map { Lane(queue: "default", kind: $0, priority: 5) }
            let sweep = Sweep(lanes: lanes, floors: [0, 4, 0])
            let swept = try await database.connection.call(sweep)
            #expect(swept.found == [lanes[1]: 5, lanes[2]: 1])
            #expect(swept.source == PositionSource(timeline: 1, highest: 5))
        }
    }

    @Test("floors that are noted only rise, and one above what was ever drawn is of another time")
    func floors() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.insert(100)
            let lanes = ["a", "b"].map { Lane(queue: "default", kind: $0, priority: 5) }
            let floors = Floors(lanes: lanes)
            #expect(try await worker.call(floors) == [:])
            try await worker.call(NoteFloors(floors: [(lanes[1], 50), (lanes[0], 7)]))
            try await worker.call(NoteFloors(floors: [(lanes[1], 40)]))
            #expect(try await worker.call(floors) == [lanes[0]: 7, lanes[1]: 50])
            try await database.query("select setval('breakwater.job_position', 20)")
            #expect(try await worker.call(floors) == [lanes[0]: 7])
            try await worker.call(NoteFloors(floors: [(lanes[0], 8)]))
            try await database.query("select setval('breakwater.job_position', 100)")
            #expect(try await worker.call(floors) == [lanes[0]: 8])
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
