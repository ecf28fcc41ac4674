package import Libpq

/// A connection for the commands and the dashboard, which show and change the state of the database.
///
/// Each method calls one function or reads one view of `sql/`. The methods are grouped by topic in the files beside
/// this one.
package struct AdminDatabase: Sendable {
    /// How long a command waits for a lock that another session holds.
    package static let lockTimeout = Duration.seconds(10)

    package let connection: Connection
    /// The address of the database for messages, without passwords.
    package let place: String
    /// The statement timeout, which the server enforces. If it is set, queries that only read run in read-only
    /// transactions. Nil if each statement has its own timeout.
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

    /// Runs a query that may change data and returns exactly one row.
    ///
    /// - Parameter timeout: The timeout if ``limit`` is nil. Defaults to 30 seconds.
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

    /// Clients of a pooler share sessions, so behind a pooler the lock timeout is set for this transaction only.
    private func query(_ sql: String, _ parameters: [Parameter], timeout: Duration) async throws -> QueryResult {
        guard connection.isPooled else { return try await connection.query(sql, parameters, timeout: timeout) }
        let setting = Statement(
            "select set_config('lock_timeout', $1, true)",
            [.text("\(Self.lockTimeout.components.seconds)s")]
        )
        return try await answer(to: Statement(sql, parameters), after: setting, timeout: timeout)
    }

    /// Runs a query with a time limit and without JIT. The results are small, so JIT compilation would take longer than
    /// the query itself.
    private func bounded(
        _ sql: String,
        _ parameters: [Parameter],
        limit: Duration,
        isReadOnly: Bool
    ) async throws -> QueryResult {
        let settings = Statement(
            """
            select set_config('statement_timeout', $1, true), set_config('lock_timeout', $1, true),
                   set_config('transaction_read_only', $2, true), set_config('jit', 'off', true)
            """,
            [.text("\(limit.wholeMilliseconds)"), .text(isReadOnly ? "on" : "off")]
        )
        // The server's timeout is shorter. The client's timeout is for a server that does not answer.
        return try await answer(to: Statement(sql, parameters), after: settings, timeout: limit + .seconds(5))
    }

    /// Sends the settings and the statement in one round trip and one transaction. The settings apply only to that
    /// transaction, so this works through any pooler.
    private func answer(to statement: Statement, after settings: Statement, timeout: Duration) async throws
        -> QueryResult
    {
        let results = try await connection.pipeline([settings, statement], timeout: timeout)
        guard let result = results.last else { throw PostgresError(.decoding, "the statement was not answered") }
        return result
    }
}
