package import Libpq

/// A connection for users who look at the database or change something in it: commands and the dashboard.
///
/// The methods, by topic in the files beside this one, each call one function or read one view of `sql/`.
package struct AdminDatabase: Sendable {
    /// How long a command waits for a lock that another session has.
    package static let lockTimeout = Duration.seconds(10)

    package let connection: Connection
    /// Where the database is, for messages; without passwords.
    package let place: String
    /// The most time that any statement may take, enforced by the server; with it, reading statements cannot change
    /// anything. Nil for each statement's own time.
    package let limit: Duration?

    package init(connection: Connection, place: String, limit: Duration? = nil) {
        self.connection = connection
        self.place = place
        self.limit = limit
    }

    /// Runs a query that changes nothing.
    package func read(
        _ sql: String,
        _ parameters: [Parameter] = [],
        timeout: Duration = .seconds(30)
    ) async throws -> QueryResult {
        guard let limit else { return try await query(sql, parameters, timeout: timeout) }
        return try await bounded(sql, parameters, limit: limit, isReadOnly: true)
    }

    /// Runs a query that changes something, and whose answer is exactly one row.
    ///
    /// - Parameter timeout: How long to wait for it, where ``limit`` says nothing. Defaults to 30 seconds.
    package func one(
        _ sql: String,
        _ parameters: [Parameter] = [],
        timeout: Duration = .seconds(30)
    ) async throws -> Row {
        let rows =
            if let limit {
                try await bounded(sql, parameters, limit: limit, isReadOnly: false)
            } else {
                try await query(sql, parameters, timeout: timeout)
            }
        guard let row = rows.first else {
            throw PostgresError(.decoding, "the database answered without a row: \(sql)")
        }
        return row
    }

    /// A pooler shares its sessions, so there the time limit for locks belongs to this transaction alone.
    private func query(_ sql: String, _ parameters: [Parameter], timeout: Duration) async throws -> QueryResult {
        guard connection.isPooled else { return try await connection.query(sql, parameters, timeout: timeout) }
        let setting = Statement(
            "select set_config('lock_timeout', $1, true)",
            [.text("\(Self.lockTimeout.components.seconds)s")]
        )
        return try await answer(to: Statement(sql, parameters), after: setting, timeout: timeout)
    }

    /// What people look at is bounded, and compiling a statement for it would take longer than running it.
    private func bounded(
        _ sql: String,
        _ parameters: [Parameter],
        limit: Duration,
        isReadOnly: Bool
    ) async throws -> QueryResult {
        let milliseconds = limit.components.seconds * 1000 + limit.components.attoseconds / 1_000_000_000_000_000
        let settings = Statement(
            """
            select set_config('statement_timeout', $1, true), set_config('lock_timeout', $1, true),
                   set_config('transaction_read_only', $2, true), set_config('jit', 'off', true)
            """,
            [.text("\(milliseconds)"), .text(isReadOnly ? "on" : "off")]
        )
        // The server's time comes first; ours is for a server that does not answer.
        return try await answer(to: Statement(sql, parameters), after: settings, timeout: limit + .seconds(5))
    }

    /// In one round trip and one transaction, to which alone the settings belong: so it works through any pooler.
    private func answer(to statement: Statement, after settings: Statement, timeout: Duration) async throws
        -> QueryResult
    {
        let results = try await connection.pipeline([settings, statement], timeout: timeout)
        guard let result = results.last else { throw PostgresError(.decoding, "the statement was not answered") }
        return result
    }
}
