import BreakwaterTesting
import Libpq
import Logging
import ServiceLifecycle
import Testing

@testable import Breakwater

@Suite("Claims in a backlog", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct ClaimAheadTests {
    private func handler(_ ran: Notes) -> HandlerRegistration {
        HandlerRegistration(
            kind: "k",
            plugin: ClosureHandler { job, _ in
                ran.add("\(job.id)")
                return .succeeded()
            }
        )
    }

    /// Runs a worker until no job is left.
    private func drain(_ database: TestDatabase, _ ran: Notes) async throws -> RecordedLog {
        let log = RecordedLog()
        let worker = Worker(
            configuration: WorkerConfiguration(database: database.options, handlers: [handler(ran)]),
            logger: log.logger()
        )
        let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let group = ServiceGroup(services: [worker], logger: silent)
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            try await waitUntil("all end") { try await database.count("job") == 0 }
            try await waitUntil("and their claims") { try await database.count("claim") == 0 }
            await group.triggerGracefulShutdown()
            try await tasks.waitForAll()
        }
        return log
    }

    /// Does something whenever a claim is committed.
    private func atCommit(_ sql: String, in database: TestDatabase) async throws {
        try await database.query(
            """
            create function at_commit() returns trigger language plpgsql as $f$ begin \(sql); return null; end $f$
            """
        )
        try await database.query(
            """
            create constraint trigger at_commit after insert on breakwater.claim
            deferrable initially deferred for each row execute function at_commit()
            """
        )
    }

    @Test("no job starts before its claim is committed, though the worker has it before")
    func startsAfterCommit() async throws {
        try await withTestDatabase { pooled in
            let database = try await pooled.watchedDirectly()
            try await database.insert(1000)
            try await atCommit("perform pg_advisory_xact_lock(4711)", in: database)
            try await database.query("select pg_advisory_lock(4711)")
            let ran = Notes()
            let configure = { @Sendable (configuration: inout WorkerConfiguration) in configuration.concurrency = 1000 }
            try await database.withWorker([handler(ran)], configure: configure) {
                try await waitUntil("the claim is being committed") {
                    try await database.number(
                        "select count(*) from pg_stat_activity where wait_event = 'advisory' and datname = current_database()"
                    ) == 1
                }
                // That something does not happen can only be waited out.
                try await Task.sleep(for: .milliseconds(500))
                #expect(ran.all.isEmpty)
                try await database.query("select pg_advisory_unlock(4711)")
                try await waitUntil("all end") { try await database.count("job") == 0 }
            }
            #expect(ran.all.count == 1000)
        }
    }

    @Test("the next is sent before the last is taken in; each job runs once, though some commits fail")
    func commitsFail() async throws {
        try await withTestDatabase { database in
            try await database.insert(60_000)
            try await database.query("create sequence commits")
            try await atCommit("if nextval('commits') % 9 = 8 then raise 'the disk is gone'; end if", in: database)
            let ran = Notes()
            let log = try await drain(database, ran)
            #expect(ran.all.count == 60_000)
            #expect(Set(ran.all).count == 60_000)
            #expect(log.messages.contains("claims ahead"))
            #expect(log.warnings.contains("connecting again for claims"))
        }
    }

    @Test("none is sent ahead while another worker takes the same jobs")
    func notAlone() async throws {
        try await withTestDatabase { database in
            try await database.insert(30_000)
            _ = try await HandWorker(database)
            let ran = Notes()
            let log = try await drain(database, ran)
            #expect(ran.all.count == 30_000)
            #expect(!log.messages.contains("claims ahead"))
        }
    }

    @Test("a worker is alone unless another that is heard of, and not drained, takes jobs of its queues and kinds")
    func alone() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, ["k", "l"], queues: ["q", "r"])
            _ = try await HandWorker(database, ["k"], queues: ["other"])
            _ = try await HandWorker(database, ["other"], queues: ["q"])
            #expect(try await worker.beat().isAlone)
            let second = try await HandWorker(database, ["l", "m"], queues: ["r"])
            #expect(try await !worker.beat().isAlone)
            #expect(try await !second.beat().isAlone)
            try await second.call(Beat(worker: second.id, isDraining: true, running: 0))
            #expect(try await worker.beat().isAlone)
            try await second.beat()
            #expect(try await !worker.beat().isAlone)
            try await database.query("update breakwater.worker set beat_at = now() - lease where id = \(second.id)")
            #expect(try await worker.beat().isAlone)
        }
    }
}
