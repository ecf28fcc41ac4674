import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("A ready job that claims would miss", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct UnseenJobTests {
    /// Runs twelve jobs, so that the lanes' cursor and floor are beyond the first positions.
    private func advance(_ worker: HandWorker, _ database: TestDatabase) async throws {
        for _ in 1...3 {
            try await database.insert(4)
            try await worker.settle(try await worker.claim())
            try await worker.maintain()
        }
        #expect(try await worker.claim().isEmpty)
        let floor = "select max(floor) from breakwater.claim"
        #expect(try await database.number(floor) >= 12)
    }

    /// Runs the chores until the leader has checked every lane.
    private func claimAfterChores(_ worker: HandWorker) async throws -> [Job] {
        var jobs: [Job] = []
        try await waitUntil("the leader finds them") {
            try await worker.maintain()
            jobs = try await worker.claim()
            return !jobs.isEmpty
        }
        return jobs
    }

    private static let ready = [
        "kind = 'other'", "run_at = null", "position = 1", "position = 0, run_at = null",
        "position = -5, run_at = null",
        "parked = null, run_at = null", "kind = 'other', run_at = null",
        "position = 9000000000000000000, run_at = null",
    ]

    @Test("gets a new position when an UPDATE by hand makes it ready", arguments: ready)
    func update(change: String) async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, ["k", "other"])
            try await database.query(
                "insert into breakwater.job (kind, run_at) values ('k', now() + interval '1 hour')"
            )
            try await advance(worker, database)
            try await database.query("update breakwater.job set \(change)")
            if !change.contains("run_at") {
                try await database.query("update breakwater.job set run_at = null")
            }
            #expect(try await database.number("select position from breakwater.job") < 1_000_000)
            #expect(try await database.texts("select why from breakwater.job_status") == ["waiting for a free worker"])
            #expect(try await claimAfterChores(worker).map(\.id) == [1])
        }
    }

    @Test(
        "is free of its circuit if it was parked and an UPDATE by hand changes that",
        arguments: ["kind = 'other'", "run_at = null", "parked = null", "parked = null, run_at = null"]
    )
    func parked(change: String) async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, ["k", "other"]) { $0.circuit.key = .path(["host"]) }
            try await database.query(
                """
                insert into breakwater.job (kind, payload, run_at, parked) values ('k', '{"host": "a"}', 'infinity', 'a')
                """
            )
            try await database.query(
                """
                insert into breakwater.circuit (kind, key, state, override, override_actor)
                values ('k', 'a', 'open', 'open', 'somebody')
                """
            )
            try await advance(worker, database)
            try await database.query("update breakwater.job set \(change)")
            let row = try await database.query(
                "select parked is null, run_at is null, position > 12 from breakwater.job"
            )
            #expect(try row[0][0].bool() && row[0][1].bool() && row[0][2].bool())
            let jobs = try await worker.claim()
            // A job that keeps its kind is parked again by this claim, because the circuit of its key is open.
            #expect(jobs.map(\.kind) == (change.hasPrefix("kind") ? ["other"] : []))
        }
    }

    @Test(
        "is found by the leader if it was written around the trigger, and its status says so until then",
        arguments: [-7, 0, 1, 3]
    )
    func aroundTheTrigger(position: Int) async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await advance(worker, database)
            try await database.query(
                "insert into breakwater.job (kind, position) values ('k', $1)",
                [.int8(Int64(position))]
            )
            #expect(try await worker.claim().isEmpty)
            let why = try await database.text("select why from breakwater.job_status")
            #expect(why.hasPrefix("no claim can see it: its position is behind"))
            #expect(try await claimAfterChores(worker).map(\.id) == [13])
        }
    }

    @Test("is found when an UPDATE by hand gives it a position that claims have passed")
    func higherPosition() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.query(
                "insert into breakwater.job (kind, run_at) values ('k', now() + interval '1 hour')"
            )
            try await advance(worker, database)
            try await database.query("update breakwater.job set position = 7, run_at = null")
            #expect(try await claimAfterChores(worker).map(\.id) == [1])
        }
    }

    @Test("is left alone while it runs")
    func running() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.insert(5)
            let jobs = try await worker.claim(2)
            try await worker.maintain()
            _ = try await worker.claim(1)
            try await worker.maintain()
            #expect(try await worker.query("select breakwater.return_stranded(1000)")[0][0].int() == 0)
            #expect(try await database.heldJobs() == [1, 2, 3])
            #expect(try await worker.settle(jobs).settled == 2)
        }
    }

    @Test("is found when the rows of its claims are gone, while other jobs run on")
    func claimsGone() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.insert(10)
            let lost = try await worker.claim(4)
            try await worker.maintain()
            let kept = try await worker.claim(3)
            try await worker.maintain()
            try await database.query("delete from breakwater.claim where lease = $1", [.int8(lost[0].lease)])
            var found: Set<Int64> = []
            try await waitUntil("they are found") {
                try await worker.maintain()
                found.formUnion(try await worker.claim().map(\.id))
                return found.count == 7
            }
            #expect(found == [1, 2, 3, 4, 8, 9, 10])
            // The runs under the claim that is gone change nothing.
            #expect(try await worker.settle(lost).settled == 0)
            #expect(try await worker.settle(kept).settled == 3)
        }
    }
}
