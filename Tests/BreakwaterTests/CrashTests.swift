@testable import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import Breakwater

/// A Postgres of one test's own that the test may crash.
private struct CrashServer: Sendable {
    fileprivate static let programs = ProcessInfo.processInfo.environment["BREAKWATER_PG_BIN"] ?? ""
    let directory: String

    private var account: String { getuid() == 0 ? "setpriv --reuid=postgres --regid=postgres --init-groups" : "" }

    func shell(_ script: String) async throws {
        let place = directory
        let status: Int32 = try await withCheckedThrowingContinuation { continuation in
            Thread {
                let process = Process()
                process.executableURL = URL(filePath: "/bin/sh")
                process.arguments = ["-c", "cd '\(place)' && { \(script); } >>said 2>&1"]
                continuation.resume(
                    with: Result {
                        try process.run()
                        process.waitUntilExit()
                        return process.terminationStatus
                    }
                )
            }.start()
        }
        if status != 0 {
            let said = (try? String(contentsOfFile: "\(place)/said", encoding: .utf8)) ?? ""
            throw BreakwaterTestingError(said)
        }
    }

    func create() async throws {
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
        try await shell("\(account) '\(Self.programs)/pg_ctl' -D data -o '\(settings)' -l data/log -w start </dev/null")
    }

    func crash() async throws {
        try await shell("\(account) '\(Self.programs)/pg_ctl' -D data -m immediate -w stop")
    }

    func database() async throws -> TestDatabase {
        let url = "postgresql:///postgres?host=\(directory)&user=postgres"
        let connection = try await Connection.connect(ConnectionOptions(url), logger: testLogger)
        return TestDatabase(name: "postgres", url: url, directURL: url, connection: connection)
    }
}

@Suite("A server that crashes", .enabled(if: !CrashServer.programs.isEmpty, "BREAKWATER_PG_BIN is not set"))
struct CrashTests {
    @Test("between a claim's commit and the flush behind it takes the claim: no job is lost, and each is claimed again")
    func betweenTheCommits() async throws {
        let server = CrashServer(
            directory: FileManager.default.temporaryDirectory.appending(path: "breakwater-crash-\(UUID())").path
        )
        try await server.create()
        defer { try? FileManager.default.removeItem(atPath: server.directory) }
        try await server.start()
        var database = try await server.database()
        _ = try await Schema.migrate(on: database.connection)
        let worker = try await HandWorker(database)
        try await database.insert(20)
        // The background may have written the log just then: then the next claim shows it.
        var claimed: Int64 = 0
        var isUnwritten = false
        while !isUnwritten, claimed < 10 {
            let jobs = try await worker.claim(1, isLate: false)
            #expect(jobs.count == 1)
            claimed += 1
            isUnwritten = try await database.query("select pg_current_wal_flush_lsn() < pg_current_wal_insert_lsn()")[
                0
            ][0]
            .bool()
        }
        #expect(isUnwritten)
        try await server.crash()

        try await server.start()
        database = try await server.database()
        #expect(try await database.heldJobs().count < claimed)
        #expect(try await database.count("job") == 20)
        let next = try await HandWorker(database)
        try await next.connection.call(Reconcile(worker: worker.id, known: []))
        let jobs = try await next.claim()
        #expect(Set(jobs.map(\.id)) == Set(1...20))
        #expect(jobs.allSatisfy { $0.attempt == 1 })
        // Behind a flush, it stays.
        try await next.call(Flush(worker: next.id))
        try await server.crash()

        try await server.start()
        database = try await server.database()
        #expect(try await database.heldJobs().count == 20)
        try await server.crash()
    }
}
