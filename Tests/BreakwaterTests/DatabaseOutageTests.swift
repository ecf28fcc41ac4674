import Libpq
import ServiceLifecycle
import Testing

@testable import Breakwater
@testable import BreakwaterTesting

@Suite("An outage of the database", .enabled(if: !CrashServer.programs.isEmpty, "BREAKWATER_PG_BIN is not set"))
struct DatabaseOutageTests {
    /// A worker counts on three quarters of its lease. This lease is long enough for a slow machine to come back in
    /// time.
    private static let lease = Duration.seconds(20)

    /// What happened to the jobs that the workers held.
    private struct Seen {
        let started = Notes()
        let cancelled = Notes()
        let door = Door()
        let log = RecordedLog()
    }

    /// Runs workers that hold a job each, stops the server for some leases, and starts it again.
    ///
    /// - Parameter body: It runs after the server has started again.
    private func withOutage(
        _ server: CrashServer,
        leases: Double,
        workers: Int,
        _ body: (TestDatabase, Seen) async throws -> Void
    ) async throws {
        let database = try await server.database()
        let seen = Seen()
        var handler = HandlerRegistration(
            kind: "long",
            plugin: ClosureHandler { job, _ in
                seen.started.add("\(job.id)")
                do {
                    try await seen.door.pass()
                } catch {
                    seen.cancelled.add("\(job.id)")
                    throw error
                }
                return .succeeded()
            }
        )
        handler.settings.timeout = .seconds(600)
        var configuration = WorkerConfiguration(database: database.options, handlers: [handler])
        configuration.lease = Self.lease
        configuration.concurrency = 1
        let services = (1...workers).map { _ in Worker(configuration: configuration, logger: seen.log.logger()) }
        let group = ServiceGroup(services: services, logger: testLogger)
        try await withThrowingTaskGroup { tasks in
            tasks.addTask { try await group.run() }
            try await database.insert(workers, kind: "long")
            try await waitUntil("each worker holds a job") { seen.started.all.count == workers }
            try await server.crash()
            let end = ContinuousClock.now + Self.lease * leases
            try await waitUntil("the outage has lasted long enough", deadline: .seconds(600)) { .now >= end }
            try await server.start()
            try await body(try await server.database(), seen)
            await group.triggerGracefulShutdown()
            try await tasks.waitForAll()
        }
    }

    @Test(
        "strikes off no worker, cancels no handler, and runs no job twice",
        arguments: [(0.5, 4), (1, 1), (2, 4), (5, 1)]
    )
    func outage(leases: Double, workers: Int) async throws {
        try await CrashServer.with { server in
            try await withOutage(server, leases: leases, workers: workers) { database, seen in
                try await waitUntil("the leader is back") {
                    try await database.number(
                        "select count(*) from breakwater.leader where renewed_at > now() - interval '1 second'"
                    ) == 1
                }
                // By now the leader has begun its maintenance. If it struck off a worker, it would do so within
                // seconds.
                let workers = try await database.numbers("select id from breakwater.worker order by id")
                try await waitUntil("every worker is heard of") {
                    try await database.number(
                        "select count(*) from breakwater.worker where beat_at < now() - interval '2 seconds'"
                    ) == 0
                }
                seen.door.open()
                try await waitUntil("the jobs end") { try await database.count("job") == 0 }
                #expect(try await database.numbers("select id from breakwater.worker order by id") == workers)
                #expect(seen.cancelled.all == [])
                #expect(seen.started.counts.values.allSatisfy { $0 == 1 })
                #expect(try await database.count("lost_worker") == 0)
                let lines = seen.log.lines
                #expect(lines.count { $0.contains("the database is away") } == workers.count)
                #expect(lines.count { $0.contains("the database is back") } == workers.count)
            }
        }
    }

    @Test("in which one worker dies gives exactly its jobs to others")
    func death() async throws {
        try await CrashServer.with { server in
            let before = try await server.database()
            let dead = try await HandWorker(before, ["short"])
            try await before.query(
                "update breakwater.worker set lease = make_interval(secs => $1) where id = $2",
                [.float8(Double(Self.lease.components.seconds)), .int8(dead.id)]
            )
            try await before.insert(3, kind: "short")
            #expect(try await dead.claim().count == 3)
            try await withOutage(server, leases: 1, workers: 2) { database, seen in
                try await waitUntil("the dead worker is struck off") { try await database.count("lost_worker") == 1 }
                #expect(
                    try await database.numbers("select id from breakwater.job where crashes = 1 order by id") == [
                        1, 2, 3,
                    ]
                )
                #expect(seen.log.lines.contains { $0.contains("its 3 jobs were given back") })
                seen.door.open()
                try await waitUntil("the jobs end") { try await database.count("job") == 3 }
                #expect(seen.cancelled.all == [])
                #expect(seen.started.counts.values.allSatisfy { $0 == 1 })
                #expect(try await database.numbers("select worker from breakwater.lost_worker") == [dead.id])
            }
        }
    }

    @Test("does not excuse a worker that alone was silent")
    func alone() async throws {
        try await withTestDatabase { database in
            let (silent, other) = (try await HandWorker(database), try await HandWorker(database))
            try await database.query(
                "update breakwater.worker set beat_at = now() - interval '1 minute', lease = '30 s'"
            )
            // The database received a heartbeat of the other worker in between.
            try await database.query(
                "update breakwater.worker set beat_at = now() - interval '1 second' where id = $1",
                [.int8(other.id)]
            )
            try await other.call(Beat(worker: other.id, isDraining: false, running: 0))
            #expect(try await database.count("absence") == 0)
            _ = try await other.maintain()
            #expect(try await database.numbers("select worker from breakwater.lost_worker") == [silent.id])
        }
    }

    @Test(
        "does not count as silence, but the time before it and after it does",
        arguments: [false, true]
    )
    func silence(isOver: Bool) async throws {
        try await withTestDatabase { database in
            let (silent, other) = (try await HandWorker(database), try await HandWorker(database))
            try await database.query("update breakwater.worker set beat_at = now() - interval '1 hour', lease = '30 s'")
            try await other.call(Beat(worker: other.id, isDraining: false, running: 0))
            #expect(try await database.count("absence") == 1)
            #expect(
                try await database.number(
                    "select extract(epoch from breakwater.silence(beat_at))::int from breakwater.worker where id = \(silent.id)"
                ) <= 2
            )
            if isOver {
                // The outage is made to look half a minute older.
                try await database.query("update breakwater.absence set ended_at = ended_at - interval '31 s'")
            }
            _ = try await other.maintain()
            #expect(
                try await database.numbers("select worker from breakwater.lost_worker") == (isOver ? [silent.id] : [])
            )
        }
    }
}
