import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("Keys that are dead", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct DeadKeyTests {
    /// The reasons why a dead key's circuit gets no probe, although it has been half-open for longer than a healthy
    /// one's.
    enum Obstacle: String, CaseIterable, Sendable {
        case noJobs, anotherQueue, pausedQueue, allProbesOut, suspended
    }

    private static let settings: @Sendable (inout HandlerSettings) -> Void = { settings in
        settings.circuit.key = .path(["host"])
        settings.circuit.consecutiveFailures = 3
        settings.circuit.suspendsWorkers = false
        settings.circuit.probes = 1
        settings.circuit.successesToClose = 1
        settings.circuit.ramp = .zero
    }

    private func worker(_ database: TestDatabase, queues: [String] = ["default"]) async throws -> HandWorker {
        try await HandWorker(database, queues: queues, settings: Self.settings)
    }

    /// Creates half-open circuits of keys. Those with the prefix `dead` have been half-open for longest.
    private func halfOpen(_ prefix: String, _ count: Int, _ database: TestDatabase) async throws {
        try await database.query(
            """
            insert into breakwater.circuit (kind, key, key_path, state, generation, since, is_checked)
            select 'k', $1 || n, '{host}', 'half_open', 3, now() - case $1 when 'dead' then interval '1 minute' else '0' end, true
              from generate_series(1, $2) n
            """,
            [.text(prefix), .int4(Int32(count))]
        )
    }

    private func park(_ count: Int, behind prefix: String, queue: String = "default", _ database: TestDatabase)
        async throws
    {
        try await database.query(
            """
            insert into breakwater.job (kind, queue, payload, run_at, parked)
            select 'k', $3, jsonb_build_object('host', c.key), 'infinity', c.key
              from breakwater.circuit c cross join generate_series(1, $2)
             where c.key like $1 || '%'
            """,
            [.text(prefix), .int4(Int32(count)), .text(queue)]
        )
    }

    private func arrange(_ obstacle: Obstacle, _ worker: HandWorker, _ database: TestDatabase) async throws {
        switch obstacle {
        case .noJobs: break
        case .anotherQueue: try await park(2, behind: "dead", queue: "elsewhere", database)
        case .pausedQueue:
            try await park(2, behind: "dead", queue: "paused", database)
            try await database.query("select breakwater.pause_queue('paused', 'it is broken')")
        case .allProbesOut:
            try await park(2, behind: "dead", database)
            try await database.query(
                """
                insert into breakwater.probe (job, lease, kind, key, generation, expires_at)
                select -n, 1, 'k', 'dead' || n, 3, now() + interval '1 hour' from generate_series(1, 25) n
                """
            )
        case .suspended:
            try await park(2, behind: "dead", database)
            try await database.query(
                """
                insert into breakwater.suspension (kind, key, worker, since, until, reason)
                select 'k', 'dead' || n, $1, now(), now() + interval '1 hour', 'it fails' from generate_series(1, 25) n
                """,
                [.int8(worker.id)]
            )
        }
    }

    @Test("25 of them that cannot be probed keep no healthy key's parked jobs waiting", arguments: Obstacle.allCases)
    func starveNobody(obstacle: Obstacle) async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database, queues: ["default", "paused"])
            try await halfOpen("dead", 25, database)
            try await arrange(obstacle, worker, database)
            try await halfOpen("well", 1, database)
            try await park(5, behind: "well", database)
            let probes = try await worker.claim()
            #expect(probes.map(\.circuitKey) == ["well1"])
            try await worker.settle(probes)
            try await worker.maintain()
            let rest = try await worker.claim()
            #expect(rest.count == 4)
            #expect(rest.allSatisfy { $0.payload.contains("well1") })
        }
    }

    @Test("a thousand of them whose probes always fail keep no healthy key's parked jobs waiting")
    func thousandFailing() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await halfOpen("dead", 995, database)
            try await park(1, behind: "dead", database)
            try await halfOpen("well", 5, database)
            try await park(5, behind: "well", database)
            try await waitUntil("the healthy keys' jobs end") {
                let jobs = try await worker.claim()
                let (well, dead) = (
                    jobs.filter { $0.payload.contains("well") }, jobs.filter { $0.payload.contains("dead") }
                )
                try await worker.settle(well, claims: well.map(\.lease))
                try await worker.settle(dead, .unavailable(delay: .seconds(60)), claims: dead.map(\.lease))
                try await database.query("select breakwater.unpark(1000)")
                return try await database.number(
                    "select count(*) from breakwater.job where payload ->> 'host' ~ 'well'"
                ) == 0
            }
        }
    }

    @Test("a key's jobs are found, even behind jobs of another queue")
    func otherQueueInFront() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await halfOpen("h", 1, database)
            try await park(200, behind: "h", queue: "a.queue", database)
            try await park(1, behind: "h", database)
            try await park(200, behind: "h", queue: "z.queue", database)
            #expect(try await worker.claim().map(\.id) == [201])
        }
    }

    @Test("one without jobs closes after an hour, and its incident ends")
    func closesWhenIdle() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            worker.setClock(0)
            try await halfOpen("h", 1, database)
            try await worker.query(
                """
                update breakwater.circuit set since = breakwater.clock() where key = 'h1'
                """
            )
            try await worker.query(
                """
                insert into breakwater.circuit_incident (kind, key, began_at, opened_at, cause)
                values ('k', 'h1', breakwater.clock(), breakwater.clock(), 'it failed')
                """
            )
            worker.setClock(3500)
            try await worker.maintain()
            let state = "select state || ': ' || reason from breakwater.circuit where key = 'h1'"
            #expect(try await database.text(state) == "half_open: new")
            worker.setClock(3601)
            try await worker.maintain()
            #expect(try await database.text(state) == "closed: no job of this key has come for an hour")
            #expect(
                try await database.number(
                    "select count(*) from breakwater.circuit_incident where ended_at = 'infinity'"
                )
                    == 0
            )
        }
    }

    @Test("one without jobs stays half-open, even if that takes longer than half_open_for")
    func isNotReopened() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { settings in
                Self.settings(&settings)
                settings.circuit.halfOpenFor = .seconds(10)
            }
            try await halfOpen("idle", 1, database)
            try await halfOpen("busy", 1, database)
            try await park(1, behind: "busy", database)
            try await database.query("update breakwater.circuit set since = now() - interval '1 minute'")
            try await worker.maintain()
            let states = try await database.texts(
                "select key || ' ' || state from breakwater.circuit where key <> '' order by 1"
            )
            #expect(states == ["busy1 open", "idle1 half_open"])
        }
    }

    @Test("a thousand of them without jobs make room for others; those with jobs keep their circuits")
    func makeRoom() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await halfOpen("dead", 990, database)
            try await halfOpen("well", 10, database)
            try await park(1, behind: "well", database)
            try await worker.maintain()
            let count = "select count(*) from breakwater.circuit where key like $1 || '%'"
            #expect(try await database.number(count, [.text("dead")]) == 790)
            #expect(try await database.number(count, [.text("well")]) == 10)
            // A key that fails now still gets a circuit.
            try await database.query(#"insert into breakwater.job (kind, payload) values ('k', '{"host": "new"}')"#)
            let jobs = try await worker.claim().filter { $0.circuitKey == "new" }
            try await worker.settle(jobs, .failed(delay: .seconds(60)))
            #expect(try await database.number(count, [.text("new")]) == 1)
        }
    }

    @Test("jobs whose circuit is gone are no longer parked")
    func missingCircuit() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await halfOpen("h", 2, database)
            try await park(3, behind: "h", database)
            try await database.query("delete from breakwater.circuit where key = 'h1'")
            #expect(try await worker.maintain().unparked == 3)
            let jobs = try await worker.claim().filter { !$0.isProbe }
            #expect(jobs.count == 3)
            #expect(jobs.allSatisfy { $0.payload.contains("h1") })
        }
    }
}
