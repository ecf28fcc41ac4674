import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import Breakwater

@Suite("Cursors and floors under random changes", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct FloorTests {
    /// The number of random steps, from `BREAKWATER_FLOOR_STEPS`. `BREAKWATER_SEED` decides which steps they are.
    private static let steps =
        ProcessInfo.processInfo.environment["BREAKWATER_FLOOR_STEPS"].flatMap { Int($0) } ?? 2000

    @Test("every job is settled once or cancelled, and never held twice", .disabled(if: TestDatabase.isPooled))
    func everyJobIsSettledOnce() async throws {
        try await withTestDatabase { database in
            let world = try await FloorWorld(database, seed: testSeed)
            do {
                for step in 1...Self.steps {
                    try await world.step()
                    if step % 100 == 0 { try await world.check() }
                }
                try await world.finish()
            } catch {
                Issue.record("BREAKWATER_SEED=\(testSeed): \(error)")
                for table in ["job", "dead_letter", "claim", "worker", "lane", "horizon"] {
                    let rows = try await database.query("select t::text from breakwater.\(table) t limit 20")
                    for row in rows { print(table, try row[0].string()) }
                }
            }
            #expect(world.faults == [], "BREAKWATER_SEED=\(testSeed)")
            #expect(world.successes.values.allSatisfy { $0 == 1 }, "settled twice; BREAKWATER_SEED=\(testSeed)")
            #expect(
                Set(world.successes.keys) == world.committed.subtracting(world.cancelled),
                "BREAKWATER_SEED=\(testSeed)"
            )
            #expect(try await database.count("job") == 0)
            print("BREAKWATER_SEED=\(testSeed): \(world.committed.count) jobs, \(world.seen)")
            // If one of these events never happened, the test would prove less than it claims.
            let expected = [
                "late", "lost claim", "two at once", "death", "settle first", "rescue first", "moved", "cancelled",
            ]
            #expect(expected.filter { world.seen[$0] == nil } == [], "BREAKWATER_SEED=\(testSeed)")
        }
    }
}

/// Workers, users who change jobs by hand, and every event that can put a job behind a lane's cursor.
private final class FloorWorld {
    private struct Walker {
        var worker: HandWorker
        var held: [Job] = []
    }

    private let database: TestDatabase
    private var generator: SeededGenerator
    private var walkers: [Walker] = []
    /// Open transactions that have added jobs, with the jobs' ids.
    private var late: [(connection: Connection, ids: [Int64])] = []
    /// The workers that were struck off, with the jobs that they still run.
    private var stale: [(worker: HandWorker, jobs: [Job])] = []
    /// A connection for transactions that wait for others.
    private let second: Connection
    private let watcher: Connection

    private(set) var committed: Set<Int64> = []
    private var highest = 0
    private(set) var cancelled: Set<Int64> = []
    /// How many times each job's success was accepted.
    private(set) var successes: [Int64: Int] = [:]
    /// The worker that holds each job, according to the answers so far.
    private var holders: [Int64: Int64] = [:]
    private(set) var faults: [String] = []
    private(set) var seen: [String: Int] = [:]

    init(_ database: TestDatabase, seed: UInt64) async throws {
        self.database = database
        generator = SeededGenerator(seed: seed)
        second = try await database.connect()
        watcher = try await database.connect()
        for _ in 0..<3 { walkers.append(try await walker()) }
        for _ in 0..<3 { late.append((try await database.connect(), [])) }
    }

    private func roll(_ sides: Int) -> Int { Int.random(in: 0..<sides, using: &generator) }

    private func note(_ what: String) { seen[what, default: 0] += 1 }

    private func walker() async throws -> Walker {
        Walker(
            // The worker sends no heartbeats, and a slow machine needs a long time, so the lease is long.
            worker: try await HandWorker(database, ["a", "b"], lease: .seconds(1800)) { settings in
                settings.retry.maxAttempts = 1_000_000
                settings.retry.budget = nil
                settings.circuit.isEnabled = false
            }
        )
    }

    func step() async throws {
        let index = roll(walkers.count)
        switch roll(30) {
        case 0..<5: committed.formUnion(try await insert(on: database.connection))
        case 5..<7: try await addLate()
        case 7: try await endLate(roll(late.count), commits: roll(4) > 0)
        case 8..<14: try await claim(index, 1 + roll(11), isLate: roll(3) == 0)
        case 14: try await loseClaim(index)
        case 15: try await claimAtOnce(index)
        case 16..<21: try await settle(index)
        case 21..<23: try await maintain()
        case 23: if roll(10) == 0 { try await die(index) }
        case 24: if roll(4) == 0 { try await rescueAgainstSettle(index, settlesFirst: roll(2) == 0) }
        case 25: try await redrive()
        case 26..<28: try await change()
        default: try await command()
        }
    }

    /// Records a fault for each job that two claims hold.
    func check() async throws {
        let twice = try await database.numbers("select job from breakwater.held group by job having count(*) > 1")
        if twice != [] { faults.append("held twice: \(twice)") }
    }

    /// Ends every open transaction, and runs jobs until none is left.
    func finish() async throws {
        for index in late.indices { try await endLate(index, commits: true) }
        try await waitUntil("every job is done") {
            try await self.redrive()
            // A quarantined job would wait for minutes after its workers were lost again. It becomes a plain suspect
            // here.
            try await self.database.query(
                "update breakwater.job set crashes = 2, run_at = 'infinity' where crashes > 2"
            )
            try await self.maintain()
            for index in self.walkers.indices {
                try await self.claim(index, 50, isLate: true)
                try await self.end(index, self.walkers[index].held, .succeeded)
                let suspects = try await self.walkers[index].worker.claimSuspects()
                try await self.end(index, suspects, .succeeded)
            }
            let dead = "select count(*) from breakwater.dead_letter where reason <> 'cancelled'"
            let (jobs, deads) = (try await self.database.count("job"), try await self.database.number(dead))
            return jobs + deads == 0
        }
        for (worker, jobs) in stale { try await record(worker, jobs, .succeeded) }
    }

    // MARK: Enqueueing

    private func insert(on connection: Connection) async throws -> [Int64] {
        let rows = try await connection.query(
            """
            insert into breakwater.job (kind, priority, run_at)
            select $1, $2, case when $3 then now() + interval '5 milliseconds' end from generate_series(1, $4)
            returning id
            """,
            [
                .text(roll(3) == 0 ? "b" : "a"), .int2(Int16(roll(4) == 0 ? 1 : 5)), .bool(roll(5) == 0),
                .int4(Int32(1 + roll(6))),
            ]
        )
        let ids = try rows.map { try $0[0].int64() }
        highest = max(highest, Int(ids.max() ?? 0))
        return ids
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
        if commits { note("late") }
        late[index].ids = []
    }

    // MARK: Working

    private func take(_ index: Int, _ jobs: [Job]) {
        let worker = walkers[index].worker.id
        for job in jobs {
            if let other = holders[job.id] { faults.append("job \(job.id) for \(worker), held by \(other)") }
            if cancelled.contains(job.id) { faults.append("job \(job.id) runs, cancelled") }
            holders[job.id] = worker
        }
        walkers[index].held += jobs
    }

    private func claim(_ index: Int, _ count: Int, isLate: Bool) async throws {
        take(index, try await walkers[index].worker.claim(count, isLate: isLate))
    }

    /// Rolls a claim back after another worker has claimed as well.
    private func loseClaim(_ index: Int) async throws {
        let worker = walkers[index].worker
        _ = try await worker.connection.query("begin")
        _ = try await worker.claim(1 + roll(5), isLate: roll(2) == 0)
        try await claim((index + 1) % walkers.count, 3, isLate: roll(2) == 0)
        _ = try await worker.connection.query("rollback")
        note("lost claim")
    }

    private func claimAtOnce(_ index: Int) async throws {
        let other = (index + 1) % walkers.count
        let (first, second) = (walkers[index].worker, walkers[other].worker)
        let (late, count) = (roll(2) == 0, 1 + roll(8))
        async let one = first.claim(count, isLate: late)
        async let two = second.claim(count, isLate: late)
        let (given, toOther) = (try await one, try await two)
        take(index, given)
        take(other, toOther)
        note("two at once")
    }

    private func settle(_ index: Int) async throws {
        walkers[index].held.shuffle(using: &generator)
        let jobs = Array(walkers[index].held.prefix(roll(walkers[index].held.count + 1)))
        let endings: [FinishedRun.Ending] = [
            .failed(), .discarded, .released, .snoozed(.milliseconds(5)), .succeeded, .succeeded, .succeeded,
        ]
        try await end(index, jobs, endings[roll(endings.count)])
    }

    private func end(_ index: Int, _ jobs: [Job], _ ending: FinishedRun.Ending) async throws {
        let ids = Set(jobs.map(\.id))
        walkers[index].held.removeAll { ids.contains($0.id) }
        let open = Set(walkers[index].held.map(\.lease))
        try await record(walkers[index].worker, jobs, ending, claims: Set(jobs.map(\.lease)).subtracting(open).sorted())
    }

    private func record(
        _ worker: HandWorker,
        _ jobs: [Job],
        _ ending: FinishedRun.Ending,
        claims: [Int64] = []
    ) async throws {
        guard !jobs.isEmpty else { return }
        accept(worker, jobs, ending, try await worker.settle(jobs, ending, claims: claims))
    }

    private func accept(_ worker: HandWorker, _ jobs: [Job], _ ending: FinishedRun.Ending, _ output: Settle.Output) {
        for job in jobs where holders[job.id] == worker.id { holders[job.id] = nil }
        guard ending == .succeeded else { return }
        for id in Set(jobs.map(\.id)).subtracting(output.stale) { successes[id, default: 0] += 1 }
    }

    // MARK: Maintenance and lost workers

    private func maintain() async throws {
        try await database.query("update breakwater.leader set expires_at = now() - interval '1 second'")
        try await walkers[roll(walkers.count)].worker.maintain()
    }

    private func redrive() async throws {
        // A job is dead-lettered as poison if workers that ran it alone were lost again and again.
        try await database.query("select breakwater.redrive(null, r) from unnest(array['discarded', 'poison']) r")
    }

    private func silence(_ worker: HandWorker) async throws {
        try await database.query(
            "update breakwater.worker set beat_at = now() - interval '1 hour' where id = $1",
            [.int8(worker.id)]
        )
    }

    /// Silences a worker until it is struck off, and registers it anew. The runs of the old worker end too late.
    private func die(_ index: Int) async throws {
        let dead = walkers[index]
        walkers[index] = try await walker()
        try await keepStale(dead.worker, dead.held)
        try await silence(dead.worker)
        try await maintain()
        for job in dead.held { holders[job.id] = nil }
        note("death")
    }

    /// Keeps runs that will end too late. The oldest ones end now, so that few connections stay open.
    private func keepStale(_ worker: HandWorker, _ jobs: [Job]) async throws {
        stale.append((worker, jobs))
        if stale.count > 8 {
            let (worker, jobs) = stale.removeFirst()
            try await record(worker, jobs, .succeeded)
        }
    }

    /// Makes a worker that counts as lost settle its jobs while a rescue gives them back.
    private func rescueAgainstSettle(_ index: Int, settlesFirst: Bool) async throws {
        let dead = walkers[index]
        // A user may have cancelled some of the jobs.
        let held = try await database.heldJobs()
        guard dead.held.count > 1, dead.held.allSatisfy({ held.contains($0.id) }) else { return }
        walkers[index] = try await walker()
        try await silence(dead.worker)
        let jobs = Array(dead.held.dropFirst())
        let (first, then) = settlesFirst ? (dead.worker.connection, second) : (second, dead.worker.connection)
        _ = try await first.query("begin")
        let rescue = "select breakwater.rescue()"
        let output: Settle.Output
        if settlesFirst {
            output = try await dead.worker.settle(jobs)
            async let rescued = then.query(rescue)
            try await blocked(then)
            _ = try await first.query("commit")
            _ = try await rescued
        } else {
            _ = try await first.query(rescue)
            async let settled = dead.worker.settle(jobs)
            try await blocked(then)
            _ = try await first.query("commit")
            output = try await settled
        }
        if output.settled != (settlesFirst ? jobs.count : 0) { faults.append("\(output) settled of \(jobs.count)") }
        accept(dead.worker, jobs, .succeeded, output)
        holders[dead.held[0].id] = nil
        try await keepStale(dead.worker, [dead.held[0]])
        note(settlesFirst ? "settle first" : "rescue first")
    }

    private func blocked(_ connection: Connection) async throws {
        let pid = connection.backendPID
        try await waitUntil("it waits for the other") {
            try await self.watcher.query("select cardinality(pg_blocking_pids($1)) > 0", [.int4(pid)])[0][0].bool()
        }
    }

    // MARK: People

    /// Changes jobs as a user would by hand, whether the jobs run or not.
    private func change() async throws {
        let changes = [
            "priority = (array[1, 5])[1 + id % 2]", "priority = 5", "kind = case kind when 'a' then 'b' else 'a' end",
            "payload = '{\"changed\": true}'", "position = 1", "run_at = now() + interval '3 milliseconds'",
            "run_at = null",
            "traceparent = 'moved'",
        ]
        let ends = roll(6) == 0 ? "rollback" : "commit"
        try await database.connection.script(
            """
            begin;
            update breakwater.job set \(changes[roll(changes.count)])
             where id % 7 = \(roll(7)) and (run_at is null or run_at < 'infinity');
            \(ends)
            """
        )
        note("moved")
    }

    private func command() async throws {
        let id = Int64(1 + roll(highest + 1))
        guard committed.contains(id) else { return }
        switch roll(3) {
        case 0:
            // A running job would end when its worker settles it.
            guard holders[id] == nil else { return }
            if try await database.query("select breakwater.cancel($1)", [.int8(id)])[0][0].bool() {
                if try await database.count("cancel_request") > 0 { faults.append("\(id) is held by an unknown claim") }
                cancelled.insert(id)
                note("cancelled")
            }
        case 1: try await database.query("select breakwater.set_priority($1, 1)", [.int8(id)])
        default:
            try await database.query(
                "select breakwater.run_now(id) from breakwater.job where id = $1 and crashes < 2",
                [.int8(id)]
            )
        }
    }
}
