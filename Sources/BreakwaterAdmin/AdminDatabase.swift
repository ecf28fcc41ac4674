package import Libpq

/// A connection for those who look at the database or change something in it: commands and the dashboard.
///
/// The methods, by topic in the files beside this one, are one door each to a function or a view of `sql/`.
package struct AdminDatabase: Sendable {
    package let connection: Connection
    /// Where the database is, for messages; without passwords.
    package let place: String

    package init(connection: Connection, place: String) {
        self.connection = connection
        self.place = place
    }

    /// Runs a query whose answer is exactly one row.
    package func one(_ sql: String, _ parameters: [Parameter] = []) async throws -> Row {
        let rows = try await connection.query(sql, parameters)
        guard let row = rows.first else {
            throw PostgresError(.decoding, "the database answered without a row: \(sql)")
        }
        return row
    }
}
