import Libpq

extension Connection {
    /// Gives this session the settings that a worker needs.
    ///
    /// A session behind a pooler is shared, so its settings are not changed but only checked once.
    ///
    /// - Throws: ``BreakwaterError`` with the code `unsuitableDatabase` if a pooler's sessions have another isolation
    ///   level or are read-only; `PostgresError`.
    func useWorkerSettings() async throws {
        guard isPooled else { return try await useOwnSettings() }
        let row = try await query(
            """
            select pg_catalog.current_setting('transaction_isolation'), \
            pg_catalog.current_setting('transaction_read_only'), pg_catalog.pg_is_in_recovery()
            """
        ).row(0)
        let isolation = try row[0].string()
        // A standby is read-only regardless of its settings.
        let isReadOnly = try row[1].string() == "on" && !row[2].bool()
        guard isolation != "read committed" || isReadOnly else { return }
        let (setting, value) =
            isolation != "read committed"
            ? ("default_transaction_isolation", "read committed") : ("default_transaction_read_only", "off")
        throw BreakwaterError(
            .unsuitableDatabase,
            """
            the sessions behind the pooler have \(setting) = '\(setting.hasSuffix("isolation") ? isolation : "on")', and \
            breakwater needs '\(value)': ALTER ROLE … SET \(setting) = '\(value)', also for the database, and reconnect the \
            pooler
            """
        )
    }
}
