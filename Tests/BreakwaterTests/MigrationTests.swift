import Breakwater
import BreakwaterTesting
import Foundation
import Libpq
import Logging
import Testing

@Suite("Migrating", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct MigrationTests {
    @Test("applies what is missing, says what, and does nothing the second time")
    func idempotent() async throws {
        try await withTestDatabase(isMigrated: false) { database in
            #expect(try await Schema.version(on: database.connection) == nil)
            #expect(try await Schema.migrate(on: database.connection) == ["0001_initial"])
            #expect(try await Schema.version(on: database.connection) == Schema.wanted)
            try await database.insert()
            #expect(try await Schema.migrate(on: database.connection) == [])
            #expect(try await database.count("job") == 1)
            try await Schema.check(on: database.connection)
        }
    }

    @Test("is safe ten times at once, and exactly one applies")
    func concurrent() async throws {
        try await withTestDatabase(isMigrated: false) { database in
            let applied = try await withThrowingTaskGroup(of: [String].self) { group in
                for _ in 0..<10 {
                    group.addTask {
                        let connection = try await database.connect()
                        defer { Task { await connection.close() } }
                        return try await Schema.migrate(on: connection)
                    }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(applied.filter { $0 == ["0001_initial"] }.count == 1)
            #expect(applied.filter(\.isEmpty).count == 9)
            #expect(try await database.count("schema_version") == 1)
        }
    }

    @Test("refuses a schema newer than it knows, and leaves it alone")
    func newer() async throws {
        try await withTestDatabase { database in
            try await database.query("insert into breakwater.schema_version (version, name) values (9999, 'later')")
            let error = await #expect(throws: BreakwaterError.self) {
                _ = try await Schema.migrate(on: database.connection)
            }
            #expect(error?.code == .schemaNewer)
            #expect(error?.message.contains("9999") == true)
            // The connection is still usable, because no transaction was left open.
            #expect(try await database.count("schema_version") == 2)
            let locks = "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
            #expect(try await database.number(locks) == 0)
        }
    }

    @Test("a failed migration leaves nothing behind")
    func atomic() async throws {
        try await withTestDatabase(isMigrated: false) { database in
            // The existing schema makes the migration fail.
            try await database.query("create schema breakwater")
            await #expect(throws: PostgresError.self) { _ = try await Schema.migrate(on: database.connection) }
            let tables = "select count(*) from pg_class where relnamespace = 'breakwater'::regnamespace"
            #expect(try await database.number(tables) == 0)
            try await database.query("drop schema breakwater")
            #expect(try await Schema.migrate(on: database.connection) == ["0001_initial"])
        }
    }

    @Test("by a role without rights is refused with a message that says so")
    func withoutRights() async throws {
        try await withTestDatabase(isMigrated: false) { database in
            try await withLoginRole(database) { role in
                let connection = try await database.connect(as: role)
                let error = await postgresError { _ = try await Schema.migrate(on: connection) }
                await connection.close()
                #expect(error?.sqlState == "42501")
                #expect(error?.message.contains("permission denied for database") == true)
            }
        }
    }

    @Test("a worker refuses a database without the schema, with an older one, and with a newer one")
    func startChecks() async throws {
        let handlers = [HandlerRegistration(kind: "k", plugin: ClosureHandler { _, _ in .succeeded() })]
        try await withTestDatabase(isMigrated: false) { database in
            let worker = Worker(
                configuration: WorkerConfiguration(database: database.options, handlers: handlers),
                logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            )
            func refusal() async -> BreakwaterError.Code? {
                await #expect(throws: BreakwaterError.self) { try await worker.run() }?.code
            }
            #expect(await refusal() == .schemaMissing)
            _ = try await Schema.migrate(on: database.connection)
            try await database.query("update breakwater.schema_version set version = 0")
            #expect(await refusal() == .schemaOlder)
            try await database.query("update breakwater.schema_version set version = 9999")
            #expect(await refusal() == .schemaNewer)
            #expect(try await database.count("worker") == 0)
        }
    }
}

/// Runs a body with a role that may log in and nothing else, and drops the role afterwards.
func withLoginRole<Result>(
    _ database: TestDatabase,
    memberOf group: String? = nil,
    _ body: (String) async throws -> Result
) async throws -> Result {
    let role = "breakwater_test_\(UUID().uuidString.prefix(13).lowercased().replacing("-", with: "_"))"
    try await database.query("create role \(role) login password 'x'")
    if let group { try await database.query("grant \(group) to \(role)") }
    do {
        let result = try await body(role)
        try await database.query("drop role \(role)")
        return result
    } catch {
        _ = try? await database.query("drop role \(role)")
        throw error
    }
}
