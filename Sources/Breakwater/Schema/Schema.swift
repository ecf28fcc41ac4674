public import Libpq

/// The schema `breakwater` in a database: its version, and its migration.
public enum Schema {
    /// The version that this program works with.
    public static var wanted: Int { Migration.all.last?.version ?? 0 }

    /// The version that a database has; nil if it has no Breakwater schema.
    ///
    /// - Parameter connection: A connection to the database.
    /// - Throws: `PostgresError`.
    public static func version(on connection: Connection) async throws -> Int? {
        // With to_regclass, a database without the schema causes no error.
        let exists = try await connection.query(
            "select pg_catalog.to_regclass('breakwater.schema_version') is not null"
        )
        guard try exists[0][0].bool() else { return nil }
        let newest = try await connection.query("select max(version) from breakwater.schema_version")
        return newest[0][0].isNull ? nil : try newest[0][0].int()
    }

    /// Refuses a database whose schema does not fit this program.
    ///
    /// - Parameter connection: A connection to the database.
    /// - Throws: ``BreakwaterError`` when the schema is missing, older or newer; `PostgresError`.
    public static func check(on connection: Connection) async throws {
        guard let found = try await version(on: connection) else {
            throw BreakwaterError(
                .schemaMissing,
                "the database has no Breakwater schema: run 'worker migrate' on it first"
            )
        }
        if found < wanted {
            throw BreakwaterError(
                .schemaOlder,
                "the database's schema has version \(found), and this worker needs \(wanted): run 'worker migrate'"
            )
        }
        try refuseNewer(found)
    }

    /// Brings a database up to date. Each missing migration has its own transaction and takes a lock, so concurrent
    /// calls are safe.
    ///
    /// - Parameters:
    ///   - connection: A connection whose user may create a schema in the database.
    ///   - lockTimeout: How long a migration may wait for a lock on a table in use. Defaults to 10 seconds.
    /// - Returns: The names of the migrations that this call applied, oldest first.
    /// - Throws: ``BreakwaterError`` when the schema is newer than this program knows, or the database's encoding is
    ///   not UTF8; `PostgresError`.
    public static func migrate(
        on connection: Connection,
        lockTimeout: Duration = .seconds(10)
    ) async throws -> [String] {
        try await refuseEncoding(on: connection)
        var applied: [String] = []
        for migration in Migration.all {
            // This is a transaction-level lock, which cannot leak through a pooler.
            try await connection.script("begin; select pg_advisory_xact_lock(\(Self.lock));", timeout: .seconds(300))
            do {
                let found = try await version(on: connection) ?? 0
                try refuseNewer(found)
                if found < migration.version {
                    try await connection.script("set local lock_timeout = '\(lockTimeout.inMilliseconds)ms'")
                    for file in migration.files { try await connection.script(file.sql, timeout: .seconds(300)) }
                    applied.append(migration.name)
                }
                try await connection.script("commit", timeout: .seconds(300))
            } catch {
                try? await connection.script("rollback")
                throw error
            }
        }
        return applied
    }

    /// A sequence whose value was below the highest number of its rows.
    public struct SequenceRepair: Equatable, Sendable {
        /// The sequence's name with its schema.
        public var sequence: String
        /// The last number that the sequence had returned.
        public var stoodAt: Int64
        /// The highest number of the rows, after which the sequence now continues.
        public var goesOnAfter: Int64
    }

    /// Advances each sequence that is behind its rows.
    ///
    /// Sequences fall behind when data is restored or replicated without them. New jobs would then get the numbers of
    /// existing ones. Workers also check for this, less thoroughly, when they start and while they lead.
    ///
    /// - Parameter connection: A connection whose user owns the schema, or has the role `breakwater_admin`. For other
    ///   users this does nothing.
    /// - Returns: The sequences that were behind.
    /// - Throws: `PostgresError`.
    public static func repairSequences(on connection: Connection) async throws -> [SequenceRepair] {
        let function = "breakwater.repair_sequences(boolean)"
        let mayCall = try await connection.query("select has_function_privilege('\(function)', 'execute')")
        guard try mayCall[0][0].bool() else { return [] }
        let rows = try await connection.query(
            "select sequence, stood_at, goes_on_after from breakwater.repair_sequences(true)",
            timeout: .seconds(3600)
        )
        return try rows.map { row in
            SequenceRepair(
                sequence: try row[0].string(),
                stoodAt: try row[1].int64(),
                goesOnAfter: try row[2].int64()
            )
        }
    }

    /// The key of the advisory lock: "breakwtr" in ASCII.
    private static let lock: Int64 = 0x6272_6561_6b77_7472

    /// Refuses a database in another encoding, because names and payloads may contain any character and the client uses
    /// only UTF-8.
    private static func refuseEncoding(on connection: Connection) async throws {
        let answer = try await connection.query("select pg_catalog.current_setting('server_encoding')")
        let encoding = try answer[0][0].string()
        guard encoding != "UTF8" else { return }
        throw BreakwaterError(
            .unsuitableDatabase,
            "the database has the encoding \(encoding), and Breakwater needs UTF8: "
                + "create another one, CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )
    }

    private static func refuseNewer(_ found: Int) throws(BreakwaterError) {
        guard found > wanted else { return }
        throw BreakwaterError(
            .schemaNewer,
            "the database's schema has version \(found), and this program knows up to \(wanted): use a newer one"
        )
    }
}
