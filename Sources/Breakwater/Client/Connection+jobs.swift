public import Libpq

extension Connection: JobDatabase {
    /// Runs a statement. It belongs to the session's transaction, if one is open.
    ///
    /// - Parameter statement: The statement.
    /// - Throws: `PostgresError`.
    public func texts(of statement: TextStatement) async throws -> [String?] {
        try await query(statement.sql, statement.bindings.map { .text($0) }).map { try $0[0].stringOrNil() }
    }
}
