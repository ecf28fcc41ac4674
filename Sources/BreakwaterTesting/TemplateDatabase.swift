import Breakwater
import Foundation
import Libpq
import Logging

/// A migrated database from which the tests' databases are copied. Copying is twice as fast as migrating each.
///
/// Its name depends on the content of the migrations, so that test processes share it on any branch. Each process that
/// builds it uses a temporary name and renames the database when it is complete. So any process that finds it may use
/// it, and if several build it at once, the first to finish wins.
actor TemplateDatabase {
    static let shared = TemplateDatabase()

    private var name: Task<String, any Error>?

    /// The template's name, once the template exists.
    func ready(on serverURL: String) async throws -> String {
        if let name { return try await name.value }
        let task = Task { try await Self.find(on: serverURL) }
        name = task
        return try await task.value
    }

    private static func find(on serverURL: String) async throws -> String {
        let folder = try SchemaFolder.given()
        let wanted = "breakwater_template_\(folder?.fingerprint ?? Schema.fingerprint)"
        let server = try await Connection.connect(ConnectionOptions(serverURL), logger: testLogger)
        do {
            if try await !exists(wanted, on: server) {
                try await build(wanted, from: folder, on: server, at: serverURL)
            }
            await server.close()
            return wanted
        } catch {
            await server.close()
            throw error
        }
    }

    private static func exists(_ name: String, on server: Connection) async throws -> Bool {
        try await server.query("select exists (select from pg_database where datname = $1)", [.text(name)])[0][0].bool()
    }

    private static func build(
        _ wanted: String,
        from folder: SchemaFolder?,
        on server: Connection,
        at serverURL: String
    ) async throws {
        let draft = "\(wanted)_\(UUID().uuidString.prefix(8).lowercased())"
        try await server.script("create database \(draft)", timeout: .seconds(120))
        do {
            let connection = try await Connection.connect(
                ConnectionOptions(urlOfDatabase(draft, on: serverURL)),
                logger: testLogger
            )
            do {
                if let folder {
                    try await folder.apply(on: connection)
                } else {
                    _ = try await Schema.migrate(on: connection)
                }
                await connection.close()
            } catch {
                await connection.close()
                throw error
            }
            try await server.script("alter database \(draft) rename to \(wanted)", timeout: .seconds(120))
        } catch {
            try? await server.script("drop database \(draft) with (force)", timeout: .seconds(120))
            guard try await exists(wanted, on: server) else { throw error }
        }
    }
}
