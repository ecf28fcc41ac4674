import Foundation
import Libpq
import TestPrograms
import Testing

@testable import Breakwater
@testable import BreakwaterTesting

@Suite("A server that crashes", .enabled(if: !CrashServer.programs.isEmpty, "BREAKWATER_PG_BIN is not set"))
struct CrashTests {
    @Test("between a claim's commit and the flush behind it takes the claim: no job is lost, and each is claimed again")
    func betweenTheCommits() async throws {
        try await CrashServer.with { server in
            var database = try await server.database()
            try await database.insert(20)
            // The server writes its log each ten seconds, and that may be just then: then it is tried again.
            var workers: [HandWorker] = []
            var isLost = false
            while !isLost, workers.count < 6 {
                let worker = try await HandWorker(database)
                workers.append(worker)
                let held = try await database.heldJobs().count
                #expect(try await worker.claim(1, isLate: false).count == 1)
                try await server.crash()
                try await server.start()
                database = try await server.database()
                isLost = try await database.heldJobs().count == held
            }
            #expect(isLost)
            #expect(try await database.count("job") == 20)
            let next = try await HandWorker(database)
            for worker in workers { _ = try await next.connection.call(Reconcile(worker: worker.id, known: [])) }
            let jobs = try await next.claim()
            #expect(Set(jobs.map(\.id)) == Set(1...20))
            #expect(jobs.allSatisfy { $0.attempt == 1 })
            // Behind a flush, it stays.
            try await next.call(Flush(worker: next.id))
            try await server.crash()

            try await server.start()
            database = try await server.database()
            #expect(try await database.heldJobs().count == 20)
        }
    }

    @Test("before a worker's flush is answered: nothing has run, and afterwards each job runs once")
    func beforeTheFlush() async throws {
        try await CrashServer.with { server in
            let database = try await server.database()
            let flush = try await database.text(
                "select pg_get_functiondef(oid) from pg_proc where oid = 'breakwater.flush'::regproc"
            )
            // The worker's claim has committed, and the flush behind it takes its time.
            try await database.query(
                """
                create or replace function breakwater.flush(p_worker bigint) returns void language sql
                as $$ select pg_sleep(600) $$
                """
            )
            let ran = Notes()
            let handler = HandlerRegistration(
                kind: "k",
                plugin: ClosureHandler { job, _ in
                    ran.add("\(job.id)")
                    return .succeeded()
                }
            )
            // Heartbeats, which write the log as well, are rare.
            try await database.withWorker([handler], configure: { $0.lease = .seconds(300) }) {
                try await waitUntil("it is there") { try await database.count("worker") == 1 }
                try await database.insert(20)
                try await waitUntil("it has claimed them") { try await database.heldJobs().count == 20 }
                #expect(ran.all == [])
                try await server.crash()
                #expect(ran.all == [])

                try await server.start()
                let restarted = try await server.database()
                #expect(try await restarted.count("job") == 20)
                try await restarted.query(flush)
                // The worker has come back with its first flush, perhaps, before that.
                try await restarted.query(
                    "select count(pg_cancel_backend(pid)) from pg_stat_activity where query like '%breakwater.flush(%'"
                        + " and pid <> pg_backend_pid()"
                )
                try await waitUntil("they run") { try await restarted.count("job") == 0 }
            }
            #expect(ran.counts == Dictionary(uniqueKeysWithValues: (1...20).map { ("\($0)", 1) }))
        }
    }
}

/// A Postgres of one test's own that the test may crash.
private final class CrashServer: Sendable {
    static let programs = ProcessInfo.processInfo.environment["BREAKWATER_PG_BIN"] ?? ""

    private let directory = FileManager.default.temporaryDirectory.appending(path: "breakwater-crash-\(UUID())").path

    /// Runs the body with a server that has the schema.
    static func with(_ body: (CrashServer) async throws -> Void) async throws {
        let server = CrashServer()
        defer { try? FileManager.default.removeItem(atPath: server.directory) }
        try await server.create()
        try await server.start()
        do {
            _ = try await Schema.migrate(on: server.database().connection)
            try await body(server)
        } catch {
            try? await server.crash()
            throw error
        }
        try await server.crash()
    }

    private func create() async throws {
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        try await shell(
            """
            mkdir data && chmod 755 . && { [ "$(id -u)" != 0 ] || chown postgres data . ; } && \
            \(account) '\(Self.programs)/initdb' --no-sync --auth=trust --username=postgres --pgdata=data
            """
        )
    }

    func start() async throws {
        // Nothing but commits that wait for the disk writes the log.
        let settings =
            "-c listen_addresses= -c unix_socket_directories=\(directory) -c wal_writer_delay=10s -c autovacuum=off"
        try await shell("\(account) '\(Self.programs)/pg_ctl' -D data -o '\(settings)' -l data/log -w -t 120 start")
    }

    func crash() async throws {
        try await shell("\(account) '\(Self.programs)/pg_ctl' -D data -m immediate -w -t 120 stop")
    }

    func database() async throws -> TestDatabase {
        let url = "postgresql:///postgres?host=\(directory)&user=postgres"
        let connection = try await Connection.connect(ConnectionOptions(url), logger: testLogger)
        return TestDatabase(name: "postgres", url: url, directURL: url, connection: connection)
    }

    /// A server refuses to run as root, which runs it as the account that the distribution has for it.
    private var account: String { getuid() == 0 ? "setpriv --reuid=postgres --regid=postgres --init-groups" : "" }

    private func shell(_ script: String) async throws {
        let child = try Child(
            "/bin/sh",
            ["-c", script],
            directory: directory,
            output: .file("\(directory)/said"),
            errors: .file("\(directory)/failed")
        )
        guard await child.end() == 0 else {
            throw BreakwaterTestingError(
                ["said", "failed"].map { (try? String(contentsOfFile: "\(directory)/\($0)", encoding: .utf8)) ?? "" }
                    .joined()
            )
        }
    }
}
