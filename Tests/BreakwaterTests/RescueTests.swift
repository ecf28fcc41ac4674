import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("Lost workers", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct RescueTests {
    private func kill(_ worker: HandWorker, _ database: TestDatabase) async throws {
        try await database.query(
            "update breakwater.worker set beat_at = now() - interval '1 hour' where id = \(worker.id)"
        )
    }

    @Test("have their jobs given back, unspent, and are struck off")
    func rescue() async throws {
        try await withTestDatabase { database in
            let dead = try await HandWorker(database)
            let alive = try await HandWorker(database)
            try await database.insert(10)
            let lost = try await dead.claim(4)
            let kept = try await alive.claim(3)
            #expect(try await alive.maintain().rescued == 0)
            try await kill(dead, database)
            let done = try await alive.maintain()
            #expect(done.leads)
            #expect(done.rescued == 4)
            #expect(try await database.numbers("select id from breakwater.worker") == [alive.id])
            #expect(try await database.number("select count(*) from breakwater.claim where worker = \(dead.id)") == 0)
            let given = try await database.query(
                "select attempt, crashes, position from breakwater.job where id <= 4 and id not in (select job from breakwater.held)"
            )
            #expect(given.count == 4)
            for row in given {
                #expect(try row[0].int() == 0)
                #expect(try row[1].int() == 1)
                // The job comes after every other, so no cursor has passed it.
                #expect(try row[2].int() > 10)
            }
            // The worker that was taken for dead settles. Nothing changes, and the answer says so.
            let late = try await dead.settle(lost)
            #expect(late.settled == 0)
            #expect(Set(late.stale) == Set(lost.map(\.id)))
            #expect(try await database.count("job") == 10)
            #expect(try await dead.claim().isEmpty)
            #expect(try await alive.settle(kept).settled == 3)
            #expect(try await alive.claim().count == 7)
        }
    }

    @Test("a run that ended in between resets the count of crashes")
    func crashesInARow() async throws {
        try await withTestDatabase { database in
            try await database.insert()
            let alive = try await HandWorker(database)
            for crash in 1...5 {
                let dead = try await HandWorker(database)
                #expect(try await dead.claim().count == 1, "crash \(crash)")
                try await kill(dead, database)
                #expect(try await alive.maintain().rescued == 1)
                #expect(try await database.number("select crashes from breakwater.job") == 1)
                #expect(try await alive.runOne(.failed()))
            }
            #expect(try await database.count("dead_letter") == 0)
            #expect(try await database.number("select crashes from breakwater.job") == 0)
        }
    }

    @Test("that were struck off during one of their claims keep nothing")
    func claimDuringRescue() async throws {
        try await withTestDatabase { database in
            try await database.insert(3)
            let dead = try await HandWorker(database)
            let alive = try await HandWorker(database, ["other"])
            _ = try await dead.connection.query("begin")
            #expect(try await dead.claim().count == 3)
            try await kill(dead, database)
            try await alive.maintain()
            // The worker's claim commits after the worker was rescued.
            _ = try await dead.connection.query("commit")
            try await waitUntil("the jobs are given back") {
                try await alive.maintain()
                return try await database.heldJobs() == []
            }
            #expect(try await database.number("select max(attempt) from breakwater.job") == 0)
            #expect(try await database.claimsWithJobs() == 0)
        }
    }

    @Test("reconciling gives back the claims that a worker never received, and no others")
    func reconcile() async throws {
        try await withTestDatabase { database in
            try await database.insert(5)
            let worker = try await HandWorker(database)
            let known = try await worker.claim(2)
            _ = try await worker.claim(2)
            let lost = try await worker.connection.call(Reconcile(worker: worker.id, known: [known[0].lease]))
            #expect(lost == 2)
            #expect(try await database.heldJobs() == [1, 2])
            #expect(try await database.number("select max(crashes) from breakwater.job") == 0)
            #expect(try await worker.claim().map(\.id) == [5, 3, 4])
        }
    }

    @Test("a worker that leaves hands back its jobs and the leadership")
    func leave() async throws {
        try await withTestDatabase { database in
            try await database.insert(5)
            let leader = try await HandWorker(database)
            let follower = try await HandWorker(database)
            #expect(try await leader.maintain().leads)
            #expect(try await !follower.maintain().leads)
            _ = try await leader.claim(3)
            #expect(try await leader.connection.call(Leave(worker: leader.id)) == 3)
            #expect(try await follower.maintain().leads)
            let jobs = try await follower.claim()
            #expect(jobs.count == 5 && jobs.allSatisfy { $0.attempt == 1 })
        }
    }

    @Test("a leader that falls silent is replaced when its term is over, and not before")
    func failover() async throws {
        try await withTestDatabase { database in
            let leader = try await HandWorker(database)
            let follower = try await HandWorker(database)
            #expect(try await leader.maintain().leads)
            #expect(try await leader.maintain().leads)
            #expect(try await !follower.maintain().leads)
            let term = try await database.number("select term from breakwater.leader")
            try await database.query("update breakwater.leader set expires_at = now() - interval '1 ms'")
            #expect(try await follower.maintain().leads)
            // The former leader comes back as a follower.
            #expect(try await !leader.maintain().leads)
            #expect(try await database.number("select term from breakwater.leader") == term + 1)
        }
    }

    @Test("two leaders at once do no harm")
    func twoLeaders() async throws {
        try await withTestDatabase { database in
            let dead = try await HandWorker(database)
            try await database.insert(200)
            _ = try await dead.claim(100)
            try await database.query(
                "insert into breakwater.job (kind, run_at) select 'k', now() from generate_series(1, 500)"
            )
            try await kill(dead, database)
            let (given, promoted) = try await withThrowingTaskGroup(of: (Int, Int).self) { group in
                for _ in 0..<4 {
                    group.addTask {
                        let connection = try await database.connect()
                        let promoted = try await connection.query("select breakwater.promote(1000)")
                        let given = try await connection.query("select breakwater.rescue()")
                        return (try given[0][0].int(), try promoted[0][0].int())
                    }
                }
                return try await group.reduce(into: (0, 0)) { $0 = ($0.0 + $1.0, $0.1 + $1.1) }
            }
            #expect(given == 100)
            #expect(promoted == 500)
            #expect(try await database.number("select count(*) from breakwater.job where crashes = 1") == 100)
            #expect(try await database.number("select count(*) from breakwater.job where run_at is null") == 700)
            #expect(try await database.number("select count(distinct position) from breakwater.job") == 700)
        }
    }
}
