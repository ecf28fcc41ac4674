import Breakwater
import Foundation
import Libpq

/// Migrations in a folder that is laid out like `sql/`.
///
/// `scripts/mutants` names one with a changed file in the environment variable `BREAKWATER_TEST_SCHEMA`, so that tests
/// run against it without a build.
struct SchemaFolder: Sendable {
    private var migrations: [(name: String, files: [(name: String, sql: String)])]

    /// The folder that the environment names; nil if it names none.
    static func given() throws -> SchemaFolder? {
        guard let path = ProcessInfo.processInfo.environment["BREAKWATER_TEST_SCHEMA"], !path.isEmpty else {
            return nil
        }
        return try SchemaFolder(path: path)
    }

    /// Reads the folder as `embed-schema` does.
    init(path: String) throws {
        func sortedContents(of folder: URL) throws -> [URL] {
            try FileManager.default
                .contentsOfDirectory(at: folder, includingPropertiesForKeys: nil, options: .skipsHiddenFiles)
                .sorted { $0.lastPathComponent < $1.lastPathComponent }
        }
        migrations = try sortedContents(of: URL(filePath: path))
            .filter { $0.lastPathComponent.first?.isNumber == true }
            .map { folder in
                let files = try sortedContents(of: folder).filter { $0.pathExtension == "sql" }
                return (
                    folder.lastPathComponent,
                    try files.map { ($0.lastPathComponent, try String(contentsOf: $0, encoding: .utf8)) }
                )
            }
    }

    /// The same as ``Schema/fingerprint`` if the files are those that the program was built with.
    var fingerprint: String {
        Schema.fingerprint(of: migrations.flatMap { [$0.name] + $0.files.flatMap { [$0.name, $0.sql] } })
    }

    /// Applies all migrations to an empty database.
    func apply(on connection: Connection) async throws {
        for migration in migrations {
            try await connection.script("begin")
            for file in migration.files {
                do {
                    try await connection.script(file.sql, timeout: .seconds(300))
                } catch {
                    throw BreakwaterTestingError("\(file.name) of BREAKWATER_TEST_SCHEMA cannot be applied: \(error)")
                }
            }
            try await connection.script("commit", timeout: .seconds(300))
        }
    }
}
