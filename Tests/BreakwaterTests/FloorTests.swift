import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("Floors and cursors, whatever comes between", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct FloorTests {
    @Test(
        "every job is settled once: late commits, lost claims, dead workers, retries, promotion and redrive, interleaved"
    )
    func everyJobIsSettledOnce() async throws {
        try await withTestDatabase { database in
            let world = try await FloorWorld(database, seed: testSeed)
            do {
                for _ in 0..<500 { try await world.step() }
                try await world.finish()
            } catch {
                Issue.record("BREAKWATER_SEED=\(testSeed): \(error)")
            }
            #expect(world.successes.values.allSatisfy { $0 == 1 }, "settled twice; BREAKWATER_SEED=\(testSeed)")
            #expect(Set(world.successes.keys) == world.committed, "BREAKWATER_SEED=\(testSeed)")
            #expect(try await database.count("job") == 0)
            #expect(try await database.count("dead_letter") == 0)
            #expect(world.committed.count > 100)
            // Otherwise the test proves less than it says.
            #expect(world.sawBehindCursor > 0, "BREAKWATER_SEED=\(testSeed)")
            #expect(world.beganHigher > 0, "BREAKWATER_SEED=\(testSeed)")
        }
    }
}

/// Some workers by hand, each with the cursors and floors that a real one has, and whatever can put a job behind them.
private final class FloorWorld {
    private struct Walker {
        var worker: HandWorker
        var lanes = LaneCursors(queues: ["default"], kinds: ["a", "b"])
        var held: [Job] = []
    }

    private let database: TestDatabase
    private var generator: SeededGenerator
    private var walkers: [Walker] = []
    /// Transactions that add jobs and stay open, with the jobs' ids.
    private var late: [(connection: Connection, ids: [Int64])] = []
    /// Runs of workers that were struck off.
    private var stale: [(worker: HandWorker, jobs: [Job])] = []

    private(set) var committed: Set<Int64> = []
    /// How often each job's success was accepted.
    private(set) var successes: [Int64: Int] = [:]
    /// How often a sweep found a job behind a cursor.
    private(set) var sawBehindCursor = 0
    /// How many workers began at the floors of others.
    private(set) var beganHigher = 0

    init(_ database: TestDatabase, seed: UInt64) async throws {
        self.database = database
        generator = SeededGenerator(seed: seed)
        for _ in 0..<3 { walkers.append(try await walker()) }
        for _ in 0..<3 { late.append((try await database.connect(), [])) }
    }

    private func roll(_ sides: Int) -> Int { Int.random(in: 0..<sides, using: &generator) }

    private func walker() async throws -> Walker {
        var walker = Walker(
            worker: try await HandWorker(database, ["a", "b"]) { settings in
                settings.retry.maxAttempts = 1000
                settings.circuit.isEnabled = false
            }
        )
        let floors = try await walker.worker.call(Floors(lanes: walker.lanes.all))
        if !floors.isEmpty { beganHigher += 1 }
        walker.lanes.begin(at: floors)
        return walker
    }

    func step() async throws {
        let index = roll(walkers.count)
        switch roll(20) {
        case 0..<3: committed.formUnion(try await insert(on: database.connection))
        case 3..<5: try await addLate()
        case 5: try await endLate(roll(late.count), commits: roll(4) > 0)
        case 6..<11: try await claim(index, roll(12))
        case 11: try await loseClaim(index)
        case 12..<15: try await settle(index)
        case 15..<17: try await sweep(index)
        case 17: try await maintain()
        case 18: if roll(4) == 0 { try await die(index) }
        default: try await redrive()
        }
    }

    /// Lets everything end that can, and works until nothing is left.
    func finish() async throws {
        for index in late.indices { try await endLate(index, commits: true) }
        try await waitUntil("every job is done", deadline: .seconds(60)) {
            try await self.redrive()
            try await self.maintain()
            for index in self.walkers.indices {
                try await self.sweep(index)
                try await self.claim(index, 50)
                try await self.settleAll(index)
                try await self.host(index)
            }
            let left = try await self.database.count("job") + self.database.count("dead_letter")
            return left == 0
        }
        for (worker, jobs) in stale { try await record(worker, jobs, .succeeded) }
    }

    // MARK: Enqueueing

    private func insert(on connection: Connection) async throws -> [Int64] {
        let rows = try await connection.query(
            """
            insert into breakwater.job (kind, priority, run_at)
            select $1, $2, case when $3 then now() + interval '30 milliseconds' end from generate_series(1, $4)
            returning id
            """,
            [
                .text(roll(3) == 0 ? "b" : "a"), .int2(Int16(roll(4) == 0 ? 1 : 5)), .bool(roll(5) == 0),
                .int4(Int32(1 + roll(6))),
            ]
        )
        return try rows.map { try $0[0].int64() }
    }

    private func addLate() async throws {
        let index = roll(late.count)
        if late[index].ids.isEmpty { _ = try await late[index].connection.query("begin") }
        late[index].ids += try await insert(on: late[index].connection)
    }

    private func endLate(_ index: Int, commits: Bool) async throws {
        guard !late[index].ids.isEmpty else { return }
        _ = try await late[index].connection.query(commits ? "commit" : "rollback")
        if commits { committed.formUnion(late[index].ids) }
        late[index].ids = []
    }

    // MARK: Working

    private func claim(_ index: Int, _ count: Int) async throws {
        let walker = walkers[index]
        let lanes = walker.lanes.active(kinds: ["a", "b"], rotation: ["a", "b"], at: .now)
        guard count > 0, !lanes.isEmpty else { return }
        let claim = Claim(
            worker: walker.worker.id,
            lanes: lanes,
            cursors: lanes.map { walker.lanes.cursor(of: $0) },
            room: ["a", "b"].map { ($0, count, concurrency: 1000) },
            total: count
        )
        let result = try await walker.worker.connection.pipeline([claim.statement])[0]
        walkers[index].lanes.claimed(try claim.reach(result), at: .now)
        walkers[index].held += try claim.decode(result).map(\.job)
    }

    /// A claim whose transaction ends without a commit, after this worker or another has gone on.
    private func loseClaim(_ index: Int) async throws {
        let connection = walkers[index].worker.connection
        let held = walkers[index].held
        _ = try await connection.query("begin")
        try await claim(index, 1 + roll(5))
        walkers[index].held = held
        try await claim((index + 1) % walkers.count, 3)
        _ = try await connection.query("rollback")
    }

    private func settle(_ index: Int) async throws {
        var walker = walkers[index]
        walker.held.shuffle(using: &generator)
        let count = roll(walker.held.count + 1)
        let jobs = Array(walker.held.prefix(count))
        walkers[index].held = Array(walker.held.dropFirst(count))
        switch roll(6) {
        case 0: try await record(walker.worker, jobs, .failed())
        case 1: try await record(walker.worker, jobs, .discarded)
        case 2: try await record(walker.worker, jobs, .released)
        case 3: try await record(walker.worker, jobs, .snoozed(.milliseconds(20)))
        default: try await record(walker.worker, jobs, .succeeded)
        }
        // Some that fall back to looking the rows up: they have moved.
        if roll(8) == 0 {
            try await database.query("update breakwater.job set traceparent = 'moved' where worker is not null")
        }
    }

    private func settleAll(_ index: Int) async throws {
        let jobs = walkers[index].held
        walkers[index].held = []
        try await record(walkers[index].worker, jobs, .succeeded)
    }

    /// Jobs that two lost workers had are in no lane: they run alone.
    private func host(_ index: Int) async throws {
        let worker = walkers[index].worker
        try await record(worker, try await worker.claimSuspect(), .succeeded)
    }

    private func record(_ worker: HandWorker, _ jobs: [Job], _ ending: FinishedRun.Ending) async throws {
        // A settle names each job once.
        let newest = Dictionary(jobs.map { ($0.id, $0) }) { $0.lease > $1.lease ? $0 : $1 }
        guard !newest.isEmpty else { return }
        let output = try await worker.settle(Array(newest.values), ending)
        guard ending == .succeeded else { return }
        for id in Set(newest.keys).subtracting(output.stale) { successes[id, default: 0] += 1 }
    }

    private func sweep(_ index: Int) async throws {
        let walker = walkers[index]
        let lanes = walker.lanes.all
        let sweep = Sweep(lanes: lanes, floors: lanes.map { walker.lanes.floor(of: $0) })
        let horizon: Horizon.Output?
        let swept: Sweep.Output
        if let holders = walker.lanes.notedHolders {
            (horizon, swept) = try await walker.worker.connection.call(Horizon(holders: holders), sweep)
        } else {
            (horizon, swept) = (nil, try await walker.worker.connection.call(sweep))
        }
        let found = swept.found
        if found.contains(where: { $0.value <= walker.lanes.cursor(of: $0.key) }) { sawBehindCursor += 1 }
        _ = walkers[index].lanes.swept(found, horizon: horizon, at: .now)
        let floors = walkers[index].lanes.takeFloorsToNote(risenBy: 1)
        if !floors.isEmpty { try await walker.worker.call(NoteFloors(floors: floors)) }
    }

    // MARK: Chores

    private func maintain() async throws {
        try await database.query("update breakwater.leader set expires_at = now() - interval '1 second'")
        try await walkers[roll(walkers.count)].worker.maintain()
    }

    private func redrive() async throws {
        try await database.query("select breakwater.redrive(null)")
    }

    /// A worker falls silent and is struck off; it comes back under another number. What it ran ends too late.
    private func die(_ index: Int) async throws {
        let dead = walkers[index]
        walkers[index] = try await walker()
        stale.append((dead.worker, dead.held))
        try await database.query(
            "update breakwater.worker set beat_at = now() - interval '1 hour' where id = $1",
            [.int8(dead.worker.id)]
        )
        try await maintain()
    }
}
