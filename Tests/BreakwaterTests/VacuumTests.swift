import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("When the table of jobs is vacuumed")
struct VacuumScheduleTests {
    /// A schedule whose times are seconds. A class, because `#expect` cannot call what changes a value.
    private final class Bench {
        private var schedule = VacuumSchedule()
        private let start = MonotonicClock().now

        func begins(_ dead: Int64, of live: Int64 = 0, at seconds: Int64) -> Bool {
            schedule.begin(.init(dead: dead, live: live), at: start + .seconds(seconds))
        }

        func ends(left: Int64?, at seconds: Int64) { schedule.end(left: left, at: start + .seconds(seconds)) }
    }

    @Test("a vacuum begins at 5,000 dead rows, or in a long table once a fifth as many rows are dead as live")
    func threshold() {
        let bench = Bench()
        #expect(!bench.begins(4999, at: 0))
        #expect(!bench.begins(199_999, of: 1_000_000, at: 0))
        #expect(bench.begins(200_000, of: 1_000_000, at: 0))
    }

    @Test("no vacuum begins while another runs, nor within five seconds of its end")
    func pauses() {
        let bench = Bench()
        #expect(bench.begins(5000, at: 0))
        #expect(!bench.begins(90_000, at: 100))
        bench.ends(left: 0, at: 100)
        #expect(!bench.begins(90_000, at: 104))
        #expect(bench.begins(90_000, at: 105))
    }

    @Test("where an old snapshot keeps the dead rows, vacuums wait until twice as many are dead, or for a minute")
    func oldSnapshot() {
        let bench = Bench()
        #expect(bench.begins(50_000, at: 0))
        bench.ends(left: 50_000, at: 0)
        #expect(!bench.begins(104_999, at: 30))
        #expect(bench.begins(105_000, at: 30))
        bench.ends(left: 105_000, at: 30)
        #expect(!bench.begins(110_000, at: 89))
        #expect(bench.begins(110_000, at: 90))
    }

    @Test("after a failure the next vacuum waits for a minute, and after each further one for twice as long")
    func failure() {
        let bench = Bench()
        #expect(bench.begins(5000, at: 0))
        bench.ends(left: nil, at: 0)
        #expect(!bench.begins(1_000_000_000, at: 59))
        #expect(bench.begins(5000, at: 60))
        bench.ends(left: nil, at: 60)
        #expect(!bench.begins(1_000_000_000, at: 179))
        #expect(bench.begins(5000, at: 180))
        bench.ends(left: 0, at: 180)
        #expect(bench.begins(5000, at: 185))
    }
}

@Suite("The table of jobs", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct VacuumTests {
    @Test("is vacuumed by the leader soon after thousands of jobs have ended")
    func leaderVacuums() async throws {
        try await withTestDatabase { database in
            try await database.query("alter table breakwater.job set (autovacuum_enabled = off)")
            try await database.query("insert into breakwater.job (kind) select 'k' from generate_series(1, 6000)")
            try await database.withWorker([
                HandlerRegistration(kind: "k", plugin: ClosureHandler { _, _ in .succeeded() })
            ]) {
                try await waitUntil("the leader has vacuumed") {
                    try await database.number("select pg_stat_get_vacuum_count('breakwater.job'::regclass)") > 0
                }
            }
        }
    }

    @Test("may be vacuumed for long without holding back the horizon of positions")
    func horizon() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.insert(3)
            // A vacuum holds this lock until it ends.
            let vacuum = try await database.connectDirectly()
            _ = try await vacuum.query("begin")
            _ = try await vacuum.query("lock table breakwater.job in share update exclusive mode")
            _ = try await worker.maintain()
            #expect(
                try await database.number("select proven from breakwater.horizon order by id desc limit 1")
                    == database.number("select last_value from breakwater.job_position")
            )
            await vacuum.close()
        }
    }

    @Test("is left to autovacuum where the worker's role may not vacuum it")
    func otherRole() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            #expect(try await worker.maintain().rows != nil)
            try await withLoginRole(database, memberOf: "breakwater_worker") { role in
                let connection = try await database.connect(as: role)
                let maintained = try await connection.call(Maintain(worker: worker.id, term: .seconds(5), chores: []))
                await connection.close()
                #expect(maintained.leads)
                #expect(maintained.rows == nil)
            }
        }
    }
}
