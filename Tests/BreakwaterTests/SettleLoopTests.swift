import BreakwaterTesting
import Libpq
import Logging
import Metrics
import Testing

@testable import Breakwater

@Suite("Settling over a connection of its own", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct SettleLoopTests {
    /// The sessions whose last statement was a settle, this one aside.
    private let settling = """
        from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
         and query like 'select settled, stale from breakwater.settle%'
        """

    private func engine(_ database: TestDatabase, _ worker: HandWorker) -> Engine {
        let configuration = WorkerConfiguration(
            database: ConnectionOptions(database.directURL),
            handlers: [HandlerRegistration(kind: "k", plugin: ClosureHandler { _, _ in .succeeded() })]
        )
        return Engine(
            configuration: configuration,
            worker: worker.id,
            registeredAt: .now,
            loggers: WorkerLoggers(Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }),
            metrics: WorkerMetrics(configuration, in: NOOPMetricsHandler.instance),
            health: WorkerHealth(),
            tracer: nil
        )
    }

    private func settle(_ jobs: some Sequence<Job>, by worker: HandWorker) -> Settle {
        Settle(worker: worker.id, runs: jobs.map { FinishedRun($0, nil) }, claims: [])
    }

    /// Some claimed jobs, and a loop that is to settle them.
    private func withLoop(
        for count: Int,
        in database: TestDatabase,
        _ body: (SettleLoop, HandWorker, [Job]) async throws -> Void
    ) async throws {
        try await database.insert(count)
        let worker = try await HandWorker(database)
        let jobs = try await worker.claim()
        let engine = engine(database, worker)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await engine.settles.run(engine) }
            try await body(engine.settles, worker, jobs)
            group.cancelAll()
        }
    }

    @Test("takes one batch at a time, and only while it is wanted")
    func takes() async throws {
        try await withTestDatabase { database in
            try await withLoop(for: 10, in: database) { settles, worker, jobs in
                #expect(!settles.take(settle(jobs, by: worker)))
                settles.want(true)
                try await waitUntil("it has a connection") { settles.isReady }
                #expect(settles.take(settle(jobs.prefix(4), by: worker)))
                #expect(!settles.take(settle(jobs.dropFirst(4), by: worker)))
                let answer = try #require(await settles.answer())
                #expect(answer.settle.runs.map(\.id) == [1, 2, 3, 4])
                #expect(try answer.result.get().settled == 4)
                #expect(await settles.answer() == nil)
                #expect(try await database.count("job") == 6)
                settles.want(false)
                try await waitUntil("it has no connection any more") { !settles.isReady }
                #expect(!settles.take(settle(jobs.dropFirst(4), by: worker)))
            }
        }
    }

    @Test("ends when it is cancelled, whether its answer was read or not", arguments: [true, false])
    func cancelled(isRead: Bool) async throws {
        try await withTestDatabase { database in
            try await database.insert(1)
            let worker = try await HandWorker(database)
            let jobs = try await worker.claim()
            let engine = engine(database, worker)
            let ended = Notes()
            // A task of its own, so that one that does not end fails this test instead of holding it up.
            let running = Task {
                await engine.settles.run(engine)
                ended.add("ended")
            }
            engine.settles.want(true)
            try await waitUntil("it has a connection") { engine.settles.isReady }
            #expect(engine.settles.take(settle(jobs, by: worker)))
            try await waitUntil("it has settled") { try await database.count("job") == 0 }
            if isRead { _ = await engine.settles.answer() }
            running.cancel()
            try await waitUntil("it ends") { ended.all == ["ended"] }
        }
    }

    @Test("says what became of a batch when its connection is lost, and takes no other")
    func lost() async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            try await withLoop(for: 2, in: database) { settles, worker, jobs in
                settles.want(true)
                try await waitUntil("it has a connection") { settles.isReady }
                #expect(settles.take(settle([jobs[0]], by: worker)))
                _ = await settles.answer()
                #expect(settles.isReady)
                try await database.query("select pg_terminate_backend(pid, 60000) \(settling)")
                #expect(settles.take(settle([jobs[1]], by: worker)))
                let answer = try #require(await settles.answer())
                #expect(throws: PostgresError.self) { try answer.result.get() }
                #expect(!settles.isReady)
                #expect(try await database.count("job") == 1)
            }
        }
    }

    @Test("is what a backlog is settled by; when it is lost, each job has still run once")
    func backlog() async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            try await database.insert(50_000)
            let ran = Notes()
            let handler = HandlerRegistration(
                kind: "k",
                plugin: ClosureHandler { job, _ in
                    ran.add("\(job.id)")
                    return .succeeded()
                }
            )
            let configure = { @Sendable (configuration: inout WorkerConfiguration) in
                configuration.database = ConnectionOptions(database.directURL)
                configuration.lease = .seconds(60)
            }
            try await database.withWorker([handler], configure: configure) { [settling] in
                try await waitUntil("one session settles while another claims") {
                    try await database.number(
                        """
                        select count(*) \(settling) and exists (
                            select from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
                               and query like '%from breakwater.claim(%')
                        """
                    ) > 0
                }
                _ = try await database.query("select pg_terminate_backend(pid) \(settling)")
                try await waitUntil("all end") { try await database.count("job") == 0 }
                try await waitUntil("and their claims") { try await database.count("claim") == 0 }
            }
            #expect(ran.all.count == 50_000)
            #expect(Set(ran.all).count == 50_000)
        }
    }
}
