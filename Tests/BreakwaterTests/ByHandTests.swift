import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("People change jobs by hand", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct ByHandTests {
    /// A session whose transaction stays open until the test ends it.
    private func transaction(_ database: TestDatabase, _ statement: String) async throws -> Connection {
        let connection = try await database.connectDirectly()
        _ = try await connection.query("begin")
        _ = try await connection.query(statement)
        return connection
    }

    private func isBlocked(_ connection: Connection, _ database: TestDatabase) async throws -> Bool {
        try await database.query(
            "select cardinality(pg_blocking_pids($1)) > 0",
            [.int4(connection.backendPID)]
        )[0][0].bool()
    }

    private static let changes = [
        "priority = 1", "kind = 'other'", "queue = 'bulk'", "position = 1", "payload = '[2]'", "run_at = null",
        "run_at = now() - interval '1 second'",
    ]

    @Test("a held job that they change is given to no other worker, and ends once", arguments: changes)
    func heldJob(change: String) async throws {
        try await withTestDatabase { database in
            let queues = ["default", "bulk"]
            let worker = try await HandWorker(database, ["k", "other"], queues: queues)
            let other = try await HandWorker(database, ["k", "other"], queues: queues)
            try await database.insert(3)
            let jobs = try await worker.claim(2)
            try await database.query("update breakwater.job set \(change) where id = 1")
            try await other.maintain()
            #expect(try await other.claim().map(\.id) == [3])
            #expect(try await other.claim().isEmpty)
            #expect(try await worker.settle(jobs).settled == 2)
            #expect(try await database.numbers("select id from breakwater.job") == [3])
        }
    }

    @Test(
        "a held job that they move is given to no other worker, whether its lane's row is gone before or after",
        arguments: [true, false]
    )
    func heldJobOfLostLane(isGoneBefore: Bool) async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            let other = try await HandWorker(database)
            try await database.insert(2)
            let jobs = try await worker.claim(1)
            let changes = ["delete from breakwater.lane where priority = 5", "update breakwater.job set priority = 1"]
            for change in isGoneBefore ? changes : changes.reversed() { try await database.query(change) }
            try await other.renewRegistration()
            #expect(try await other.claim().map(\.id) == [2])
            #expect(try await other.claim().isEmpty)
            #expect(try await worker.settle(jobs).settled == 1)
            #expect(try await database.numbers("select id from breakwater.job") == [2])
        }
    }

    @Test("a waiting job that they change runs once, in its new place", arguments: changes)
    func waitingJob(change: String) async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, ["k", "other"], queues: ["default", "bulk"])
            try await database.insert(2)
            // Job 1 is held back, so the claim moves the cursor past the first position.
            try await database.query("update breakwater.job set run_at = now() + interval '1 hour' where id = 1")
            #expect(try await worker.claim().map(\.id) == [2])
            try await database.query("update breakwater.job set \(change) where id = 1")
            if change.contains("run_at") {
                try await worker.maintain()
            } else {
                try await database.query("update breakwater.job set run_at = null where id = 1")
            }
            #expect(try await worker.claim(isLate: false).map(\.id) == [1])
            #expect(try await worker.claim().isEmpty)
        }
    }

    @Test("a job that they move twice while a claim of its first lane is under way is held once")
    func movedTwice() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            let other = try await HandWorker(database)
            try await database.insert(2)
            _ = try await worker.connection.query("begin")
            #expect(try await worker.claim(isLate: false).map(\.id) == [1, 2])
            try await database.query("update breakwater.job set priority = 1 where id = 1")
            #expect(try await other.claim().isEmpty)
            let session = try await database.connectDirectly()
            async let second = session.query("update breakwater.job set priority = 2 where id = 1")
            try await waitUntil("the second move waits for the claim") { try await isBlocked(session, database) }
            _ = try await worker.connection.query("commit")
            _ = try await second
            #expect(try await other.claim().isEmpty)
            #expect(try await database.heldJobs() == [1, 2])
        }
    }

    @Test("a running job that they delete is gone: its run changes nothing, its neighbours end")
    func deletedJob() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.insert(3)
            let jobs = try await worker.claim()
            try await database.query("delete from breakwater.job where id = 2")
            let output = try await worker.settle(jobs, claims: [jobs[0].lease])
            #expect(output.settled == 2 && output.stale == [2])
            #expect(try await database.count("job") == 0)
            #expect(try await database.claimsWithJobs() == 0)
        }
    }

    @Test(
        "a job that a claim skips because it is locked is found when the lock is released",
        arguments: ["commit", "rollback"]
    )
    func lockedJob(ending: String) async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.insert(10)
            try await database.query("select breakwater.record_horizon()")
            let person = try await transaction(database, "update breakwater.job set payload = '[2]' where id = 3")
            #expect(try await worker.claim(5, isLate: false).map(\.id) == [1, 2, 4, 5, 6])
            #expect(try await worker.claim(isLate: false).map(\.id) == [7, 8, 9, 10])
            for _ in 1...3 {
                try await worker.maintain()
                #expect(try await worker.claim().isEmpty)
            }
            _ = try await person.query(ending)
            let last = try await worker.claim()
            #expect(last.map(\.id) == [3])
            #expect(last[0].payload == (ending == "commit" ? "[2]" : "{}"))
        }
    }

    @Test("a job that is cancelled by an open transaction does not stop its lane")
    func openCancel() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.insert(5)
            let person = try await transaction(database, "select breakwater.cancel(2)")
            #expect(try await worker.claim().map(\.id) == [1, 3, 4, 5])
            _ = try await person.query("commit")
            #expect(try await worker.claim().isEmpty)
            #expect(try await database.numbers("select id from breakwater.dead_letter") == [2])
        }
    }

    @Test(
        "cancelling a job waits for a claim in progress, and asks its worker if that claim took the job",
        arguments: ["commit", "rollback"]
    )
    func cancelAgainstClaim(ending: String) async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            let session = try await database.connectDirectly()
            try await database.insert(2)
            _ = try await worker.connection.query("begin")
            #expect(try await worker.claim(isLate: false).count == 2)
            async let cancelled = session.query("select breakwater.cancel(1)")
            try await waitUntil("it waits for the claim") { try await isBlocked(session, database) }
            _ = try await worker.connection.query(ending)
            #expect(try await cancelled[0][0].bool())
            #expect(try await database.count("dead_letter") == (ending == "rollback" ? 1 : 0))
            #expect(try await database.count("cancel_request") == (ending == "rollback" ? 0 : 1))
            #expect(try await worker.claim().map(\.id) == (ending == "rollback" ? [2] : []))
        }
    }

    @Test("cancelling waits for a claim of the lane from which the job was moved")
    func cancelMoved() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            let session = try await database.connectDirectly()
            try await database.insert(1)
            _ = try await worker.connection.query("begin")
            #expect(try await worker.claim(isLate: false).count == 1)
            try await database.query("update breakwater.job set priority = 1")
            async let cancelled = session.query("select breakwater.cancel(1)")
            try await waitUntil("it waits for the claim") { try await isBlocked(session, database) }
            _ = try await worker.connection.query("commit")
            #expect(try await cancelled[0][0].bool())
            #expect(try await database.numbers("select job from breakwater.cancel_request") == [1])
        }
    }

    @Test("a claim waits for no locked job, not even to expire it")
    func lockedExpired() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { $0.retry.maxAge = .seconds(60) }
            try await database.insert(3)
            try await database.query("update breakwater.job set enqueued_at = now() - interval '1 hour' where id < 3")
            let person = try await transaction(database, "select from breakwater.job where id = 2 for update")
            #expect(try await worker.claim().map(\.id) == [3])
            #expect(try await database.numbers("select id from breakwater.dead_letter") == [1])
            _ = try await person.query("commit")
            #expect(try await worker.claim().isEmpty)
            #expect(try await database.count("dead_letter") == 2)
        }
    }
}
