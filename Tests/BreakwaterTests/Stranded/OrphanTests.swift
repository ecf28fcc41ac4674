import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("Jobs whose claim is damaged", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct OrphanTests {
    /// Statements that damage the claim of a worker.
    private static let damages = [
        "delete from breakwater.worker where id = $1",
        "update breakwater.claim set worker = 12345 where worker = $1",
        "update breakwater.claim set worker = 0 where worker = $1",
        "delete from breakwater.claim where worker = $1",
    ]

    @Test("are given back by the leader, and run once", arguments: damages)
    func rescue(damage: String) async throws {
        try await withTestDatabase { database in
            let lost = try await HandWorker(database)
            try await database.insert(5)
            let jobs = try await lost.claim(3)
            try await database.query(damage, [.int8(lost.id)])
            let worker = try await HandWorker(database)
            var found: Set<Int64> = []
            try await waitUntil("all are found") {
                try await worker.maintain()
                let claimed = try await worker.claim().map(\.id)
                #expect(found.isDisjoint(with: claimed))
                found.formUnion(claimed)
                return found.count == 5
            }
            // The worker that held them settles too late.
            #expect(try await lost.settle(jobs).settled == 0)
            #expect(try await database.number("select max(crashes) from breakwater.job") == 0)
        }
    }

    @Test("can be cancelled, given a priority and hurried without a leader", arguments: damages)
    func byHand(damage: String) async throws {
        try await withTestDatabase { database in
            let lost = try await HandWorker(database)
            try await database.insert(3)
            _ = try await lost.claim(3)
            try await database.query(damage, [.int8(lost.id)])
            #expect(try await database.query("select breakwater.cancel(1)")[0][0].bool())
            #expect(try await database.query("select breakwater.set_priority(2, 0)")[0][0].bool())
            #expect(try await database.numbers("select id from breakwater.dead_letter") == [1])
            #expect(try await database.heldJobs().isEmpty)
        }
    }

    @Test("a suspect runs if it is the only job that can probe a half-open circuit, and its result counts")
    func suspectAsProbe() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { $0.circuit.successesToClose = 1 }
            try await database.query(
                "insert into breakwater.job (kind, crashes, run_at) values ('k', 2, 'infinity'), ('k', 2, 'infinity')"
            )
            try await database.query("update breakwater.circuit set state = 'open', retry_at = 'infinity'")
            #expect(try await worker.claimSuspects().isEmpty)
            try await database.query("update breakwater.circuit set state = 'half_open'")
            let jobs = try await worker.claimSuspects()
            #expect(jobs.map(\.id) == [1])
            try await worker.settle(jobs)
            #expect(try await database.text("select state from breakwater.circuit") == "closed")
        }
    }

    @Test("cancelling a job that a living worker holds takes it from nobody, but asks the worker")
    func livingWorker() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.insert(1)
            _ = try await worker.claim(1)
            #expect(try await database.query("select breakwater.cancel(1)")[0][0].bool())
            #expect(try await database.heldJobs() == [1])
            #expect(try await database.count("cancel_request") == 1)
        }
    }

    @Test("a worker is rescued even if an earlier lost worker had the same number")
    func lostTwice() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, ["other"])
            let lost = try await HandWorker(database)
            try await database.query(
                "insert into breakwater.lost_worker (worker, name, beat_at, jobs) values ($1, 'before', now(), '{}')",
                [.int8(lost.id)]
            )
            try await database.insert(2)
            _ = try await lost.claim()
            try await database.query(
                "update breakwater.worker set beat_at = now() - interval '1 hour' where id = $1",
                [.int8(lost.id)]
            )
            #expect(try await worker.maintain().rescued == 2)
        }
    }
}
