import Foundation
import Libpq
import TestPrograms

@testable import Breakwater
@testable import BreakwaterTesting

/// A Postgres server that belongs to one test, which may crash it.
final class CrashServer: Sendable {
    static let programs = ProcessInfo.processInfo.environment["BREAKWATER_PG_BIN"] ?? ""

    private let directory = FileManager.default.temporaryDirectory.appending(path: "breakwater-crash-\(UUID())").path

    /// Starts a server that has the schema, and runs the body with it.
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
        // With these settings, only commits that wait for the disk write the server's log (WAL).
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

    /// The start of a command that runs as the distribution's account for Postgres, since a server refuses to run as
    /// root.
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
