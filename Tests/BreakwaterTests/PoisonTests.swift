import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("Jobs whose workers are lost", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct PoisonTests {
    /// Makes a worker count as lost, as if it had been silent.
    private func lose(_ worker: HandWorker, by other: HandWorker, _ database: TestDatabase) async throws {
        try await database.query(
            "update breakwater.worker set beat_at = now() - interval '1 hour' where id = \(worker.id)"
        )
        try await other.maintain()
    }

    /// Loses this many workers in a row. Each worker has claimed the jobs in the usual way.
    private func lose(_ times: Int, by other: HandWorker, _ database: TestDatabase) async throws {
        for _ in 0..<times {
            let worker = try await HandWorker(database)
            #expect(try await !worker.claim().isEmpty)
            try await lose(worker, by: other, database)
        }
    }

    private func endHearings(_ leader: HandWorker, _ database: TestDatabase) async throws {
        // The quarantine outlasts a worker whose network was silent: it is five leases of half a minute each.
        let early = "select count(*) from breakwater.job where crashes >= 3 and run_at < now() + interval '120 seconds'"
        #expect(try await database.number(early) == 0)
        try await database.query("update breakwater.job set run_at = now() where crashes >= 3")
        try await leader.maintain()
    }

    @Test("are suspects after two losses in a row: only a worker that holds nothing else can claim them")
    func suspects() async throws {
        try await withTestDatabase { database in
            let leader = try await HandWorker(database, ["other"])
            try await database.insert(2)
            try await lose(2, by: leader, database)
            try await database.insert()
            let worker = try await HandWorker(database)
            #expect(try await worker.claim().map(\.id) == [3])
            #expect(
                try await database.number("select count(*) from breakwater.job_status where state = 'suspect'") == 2
            )
            let group = try await worker.claimSuspects()
            #expect(group.map(\.id) == [1, 2])
            #expect(group.map(\.attempt) == [1, 1])
            // One group of suspects runs at a time in the whole fleet.
            try await database.query("insert into breakwater.job (kind, crashes, run_at) values ('k', 2, 'infinity')")
            let other = try await HandWorker(database)
            #expect(try await other.claimSuspects().isEmpty)
            #expect(try await worker.settle(group).settled == 2)
            #expect(try await other.claimSuspects().map(\.id) == [4])
        }
    }

    @Test("cannot be hurried: neither suspects nor jobs in quarantine")
    func runNow() async throws {
        try await withTestDatabase { database in
            try await database.insert(2)
            try await database.query(
                "update breakwater.job set crashes = id + 1, run_at = case id when 1 then 'infinity' else now() + interval '1 hour' end"
            )
            for id in 1...2 {
                let refusal = try await #require(throws: PostgresError.self) {
                    try await database.query("select breakwater.run_now(\(id))")
                }
                #expect(
                    refusal.message.contains("job \(id) cannot be hurried: \(id + 1) of its workers in a row were lost")
                )
            }
            #expect(try await database.number("select count(*) from breakwater.job where run_at is not null") == 2)
        }
    }

    @Test("wait for the least busy worker that could run them")
    func host() async throws {
        try await withTestDatabase { database in
            let leader = try await HandWorker(database, ["other"])
            let (idle, busy) = (try await HandWorker(database), try await HandWorker(database))
            try await database.insert()
            #expect(try await !idle.beat().hostsSuspect)
            try await lose(2, by: leader, database)
            #expect(try await !leader.beat().hostsSuspect)
            _ = try await idle.beat(running: 1)
            #expect(try await !busy.beat(running: 5).hostsSuspect)
            #expect(try await idle.beat(running: 1).hostsSuspect)
            try await database.query("select breakwater.pause_kind('k', 'for the test')")
            #expect(try await !idle.beat(running: 1).hostsSuspect)
            #expect(try await idle.claimSuspects().isEmpty)
        }
    }

    @Test("are poison when the worker that ran one alone is lost as well, and the dead letter holds the evidence")
    func poison() async throws {
        try await withTestDatabase { database in
            let leader = try await HandWorker(database, ["other"])
            try await database.insert(3)
            try await lose(2, by: leader, database)
            // The suspects run as a group of three, then of two, then of one.
            for group: [Int64] in [[1, 2, 3], [1, 2], [1]] {
                let host = try await HandWorker(database)
                if group == [1] {
                    // Job 3 was not in the half that was lost last, so it runs first.
                    let third = try await host.claimSuspects()
                    #expect(third.map(\.id) == [3])
                    #expect(third.map(\.attempt) == [1])
                    try await host.settle(third, .failed())
                }
                #expect(try await host.claimSuspects().map(\.id) == group)
                try await lose(host, by: leader, database)
            }
            // Job 1 is in quarantine first: no worker gets it, and the leader does not promote it when its time has
            // come.
            #expect(try await database.count("dead_letter") == 0)
            #expect(try await database.number("select count(*) from breakwater.job where crashes = 3") == 1)
            try await endHearings(leader, database)
            #expect(try await database.numbers("select id from breakwater.dead_letter where reason = 'poison'") == [1])

            let evidence = try await database.query(
                """
                select e -> 'neighbours', e ->> 'message', (e ->> 'at')::timestamptz <= now(), attempt
                  from breakwater.dead_letter, jsonb_array_elements(errors) e order by (e ->> 'at')::timestamptz
                """
            )
            #expect(try evidence.map { try $0[0].string() } == ["[2, 3]", "[2, 3]", "[2, 3]", "[2]", "[]"])
            #expect(try evidence[0][1].string().contains("and 2 others"))
            #expect(try evidence[4][1].string().contains("alone"))
            #expect(try evidence[4][2].bool())
            #expect(try evidence[4][3].int() == 0)

            // The other job of the last half runs at its first attempt, and this run clears it.
            let other = try await HandWorker(database)
            let second = try await other.claimSuspects()
            #expect(second.map(\.id) == [2])
            #expect(second.map(\.attempt) == [1])
            try await other.settle(second, .failed())
            #expect(try await other.claim().count == 2)
            #expect(try await database.number("select max(crashes) from breakwater.job") == 0)
        }
    }

    @Test("are told apart by halving: one killer among sixty-four costs seven workers, and no other job an attempt")
    func halving() async throws {
        try await withTestDatabase { database in
            let leader = try await HandWorker(database, ["other"])
            try await database.insert(64)
            try await database.query("update breakwater.job set crashes = 2, run_at = 'infinity'")
            var losses = 0
            while true {
                let host = try await HandWorker(database)
                let group = try await host.claimSuspects()
                guard !group.isEmpty else { break }
                if group.contains(where: { $0.id == 13 }) {
                    losses += 1
                    try await lose(host, by: leader, database)
                } else {
                    try await host.settle(group)
                }
            }
            #expect(losses == 7)
            try await endHearings(leader, database)
            #expect(try await database.numbers("select id from breakwater.dead_letter") == [13])
            #expect(try await database.count("job") == 0)
        }
    }

    @Test("are cleared when the worker comes back: it had not died", arguments: 1...3)
    func survived(losses: Int) async throws {
        try await withTestDatabase { database in
            let leader = try await HandWorker(database, ["other"])
            try await database.insert()
            try await lose(min(losses, 2) - (losses < 3 ? 1 : 0), by: leader, database)
            let silent = try await HandWorker(database)
            #expect(try await (losses < 3 ? silent.claim() : silent.claimSuspects()).count == 1)
            try await lose(silent, by: leader, database)
            #expect(try await database.number("select crashes from breakwater.job") == losses)
            #expect(try await silent.connection.call(Survived(worker: silent.id)) == 1)
            // A second call for the same worker changes nothing.
            #expect(try await silent.connection.call(Survived(worker: silent.id)) == 0)
            #expect(try await database.number("select crashes from breakwater.job") == losses - 1)
            try await endHearings(leader, database)
            #expect(try await database.count("dead_letter") == 0)
            let next = try await HandWorker(database)
            #expect(try await (losses < 3 ? next.claim() : next.claimSuspects()).count == 1)
        }
    }

    @Test("stay suspects when they are handed back, and are cleared when a run has ended")
    func released() async throws {
        try await withTestDatabase { database in
            let leader = try await HandWorker(database, ["other"])
            try await database.insert()
            try await lose(2, by: leader, database)
            let host = try await HandWorker(database)
            try await host.settle(try await host.claimSuspects(), .released)
            #expect(try await host.claim().isEmpty)
            #expect(try await host.claimSuspects().count == 1)
            #expect(try await host.connection.call(Leave(worker: host.id)) == 1)
            let other = try await HandWorker(database)
            #expect(try await other.claim().isEmpty)
            try await other.settle(try await other.claimSuspects(), .snoozed())
            #expect(try await other.claim().count == 1)
        }
    }

    @Test("are found through their index among many waiting jobs")
    func plan() async throws {
        try await withTestDatabase { database in
            try await database.insert(20000)
            let worker = try await HandWorker(database)
            try await database.query("select pg_stat_reset_single_table_counters('breakwater.job'::regclass)")
            for _ in 0..<20 { #expect(try await !worker.beat().hostsSuspect) }
            try await database.query("select pg_stat_force_next_flush()")
            let scans = try await database.number(
                "select seq_scan from pg_stat_user_tables where relid = 'breakwater.job'::regclass"
            )
            #expect(scans == 0)
        }
    }

    @Test("run apart from others in a busy worker, which then goes on")
    func worker() async throws {
        try await withTestDatabase { database in
            let leader = try await HandWorker(database, ["other"])
            try await database.insert(3)
            try await lose(2, by: leader, database)
            let (crowd, most) = (Crowd(), Notes())
            let handler = ClosureHandler { job, _ in
                try await crowd.within {
                    // A suspect runs long enough for the test to see other jobs beside it.
                    try await Task.sleep(for: .milliseconds(job.id <= 3 ? 200 : 5))
                    if job.id <= 3 { most.add("suspect \(job.id) among \(crowd.now)") }
                    return .succeeded()
                }
            }
            try await database.withWorker([HandlerRegistration(kind: "k", plugin: handler)]) {
                // The worker always has other jobs to run.
                while try await database.number("select count(*) from breakwater.job where id <= 3") > 0 {
                    try await database.insert(50)
                    try await waitUntil("those before have ended") { try await database.count("job") < 50 }
                }
                try await waitUntil("it goes on") { try await database.count("job") == 0 }
            }
            // The suspects ran together, without any other job.
            #expect(most.all.count == 3)
            #expect(most.all.allSatisfy { note in (1...3).contains { note.hasSuffix("among \($0)") } })
        }
    }
}
