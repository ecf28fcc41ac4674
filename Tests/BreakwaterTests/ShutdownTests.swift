import BreakwaterTesting
import Glibc
import Libpq
import Logging
import ServiceLifecycle
import Testing

@testable import Breakwater

@Suite("Shutting down", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct ShutdownTests {
    private let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    /// Returns a worker in a service group, with its configuration.
    private func group(
        _ database: TestDatabase,
        grace: Duration,
        _ body: @escaping @Sendable (Job, JobContext) async throws -> JobOutcome
    ) -> ServiceGroup {
        var configuration = WorkerConfiguration(
            database: database.options,
            handlers: [HandlerRegistration(kind: "k", plugin: ClosureHandler(body))]
        )
        configuration.concurrency = 4
        configuration.shutdownGrace = grace
        return ServiceGroup(services: [Worker(configuration: configuration, logger: silent)], logger: silent)
    }

    @Test("within the grace finishes what runs, and hands back the rest unspent")
    func withinGrace() async throws {
        try await withTestDatabase { database in
            try await database.insert(50)
            let door = Door()
            let group = group(database, grace: .seconds(60)) { _, _ in
                try await door.pass()
                return .succeeded()
            }
            async let run: Void = group.run()
            try await waitUntil("four run") { door.waiting == 4 }
            await group.triggerGracefulShutdown()
            try await waitUntil("it is draining") {
                try await database.number("select count(*) from breakwater.worker where state = 'draining'") == 1
            }
            #expect(door.waiting == 4)
            door.open()
            try await run
            #expect(try await database.count("job") == 46)
            #expect(try await database.number("select count(*) from breakwater.job where attempt > 0") == 0)
            #expect(try await database.heldJobs() == [])
            #expect(try await database.count("worker") == 0)
            #expect(try await database.claimsWithJobs() == 0)
        }
    }

    @Test("after the grace cancels what still runs, and hands it back unspent")
    func afterGrace() async throws {
        try await withTestDatabase { database in
            try await database.insert(10)
            let cancelled = Notes()
            let door = Door()
            let group = group(database, grace: .milliseconds(200)) { job, _ in
                do { try await door.pass() } catch {
                    cancelled.add("\(job.id)")
                    throw error
                }
                return .succeeded()
            }
            async let run: Void = group.run()
            try await waitUntil("four run") { door.waiting == 4 }
            await group.triggerGracefulShutdown()
            try await run
            #expect(cancelled.all.count == 4)
            #expect(try await database.count("job") == 10)
            let touched = "select count(*) from breakwater.job where attempt > 0 or errors is not null"
            #expect(try await database.number(touched) == 0)
            #expect(try await database.heldJobs() == [])
            #expect(try await database.count("worker") == 0)
        }
    }

    @Test("ends although a handler ignores its cancellation, and hands its job back")
    func deafHandler() async throws {
        try await withTestDatabase { database in
            try await database.insert(1)
            let (door, started) = (Door(), Notes())
            let group = group(database, grace: .milliseconds(100)) { _, _ in
                started.add("started")
                await Task.detached { try? await door.pass() }.value
                return .succeeded()
            }
            async let run: Void = group.run()
            try await waitUntil("it runs") { started.all.count == 1 }
            await group.triggerGracefulShutdown()
            try await run
            #expect(try await database.number("select count(*) from breakwater.job where attempt = 0") == 1)
            #expect(try await database.heldJobs() == [])
            door.open()
        }
    }

    @Test("ends within its graces although the database is gone")
    func withoutDatabase() async throws {
        try await withTestDatabase { database in
            try await database.insert(4)
            let door = Door()
            try await withLoginRole(database, memberOf: "breakwater_worker") { role in
                var configuration = WorkerConfiguration(
                    database: database.options(for: role),
                    handlers: [
                        HandlerRegistration(
                            kind: "k",
                            plugin: ClosureHandler { _, _ in
                                try await door.pass()
                                return .succeeded()
                            }
                        )
                    ]
                )
                configuration.shutdownGrace = .milliseconds(500)
                let group = ServiceGroup(
                    services: [Worker(configuration: configuration, logger: silent)],
                    logger: silent
                )
                async let run: Void = group.run()
                try await waitUntil("they run") { door.waiting == 4 }
                // The role can no longer log in.
                try await database.query("alter role \(role) nologin")
                try await database.query(
                    "select pg_terminate_backend(pid) from pg_stat_activity where usename = $1",
                    [.text(role)]
                )
                door.open()
                let start = ContinuousClock.now
                await group.triggerGracefulShutdown()
                try await run
                #expect(ContinuousClock.now - start < .seconds(300))
            }
            // When the lease ends, the next worker that does maintenance gives the jobs back.
            #expect(try await database.count("job") == 4)
            let other = try await HandWorker(database)
            try await database.query(
                "update breakwater.worker set beat_at = now() - interval '1 hour' where id <> \(other.id)"
            )
            #expect(try await other.maintain().rescued == 4)
            #expect(try await other.claim().count == 4)
        }
    }
    @Test("an idle worker ends soon although the database says nothing", .enabled(if: !TestDatabase.isPooled))
    func silentDatabase() async throws {
        try await withTestDatabase { database in
            try await withLoginRole(database, memberOf: "breakwater_worker") { role in
                var configuration = WorkerConfiguration(
                    database: database.options(for: role),
                    handlers: [HandlerRegistration(kind: "k", plugin: ClosureHandler { _, _ in .succeeded() })]
                )
                configuration.shutdownGrace = .seconds(3600)
                configuration.listens = false
                configuration.pollInterval = .milliseconds(20)
                let group = ServiceGroup(
                    services: [Worker(configuration: configuration, logger: silent)],
                    logger: silent
                )
                async let run: Void = group.run()
                try await waitUntil("it is there") { try await database.count("worker") == 1 }
                let sessions = try await database.numbers(
                    "select pid from pg_stat_activity where usename = '\(role)' and pid <> pg_backend_pid()"
                )
                for session in sessions { kill(Int32(session), SIGSTOP) }
                // A stopped session could never be ended otherwise.
                defer { for session in sessions { kill(Int32(session), SIGCONT) } }
                await group.triggerGracefulShutdown()
                try await run
            }
        }
    }
}
