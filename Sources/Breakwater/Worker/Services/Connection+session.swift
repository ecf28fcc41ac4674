import Libpq

extension Connection {
    /// What a worker needs of its session, whatever defaults its role or its database has. Every call has a deadline of its
    /// own, so none of the server's time limits is wanted.
    private static let settings: [(name: String, value: String, since: Int)] = [
        // Claims read what others have just committed.
        ("default_transaction_isolation", "read committed", 0),
        ("default_transaction_read_only", "off", 0),
        ("default_transaction_deferrable", "off", 0),
        ("statement_timeout", "0", 0),
        ("lock_timeout", "0", 0),
        ("idle_session_timeout", "0", 0),
        ("idle_in_transaction_session_timeout", "0", 0),
        ("transaction_timeout", "0", 170_000),
    ]

    /// Gives this session the settings that a worker needs.
    ///
    /// A session behind a pooler is shared, so nothing is set there: it is looked at once.
    ///
    /// - Throws: ``BreakwaterError`` with the code `unsuitableDatabase` where a pooler's sessions have another isolation level
    ///   or are read-only; `PostgresError`.
    func useWorkerSettings() async throws {
        guard isPooled else { return try await setWorkerSettings() }
        let row = try await query(
            """
            select pg_catalog.current_setting('transaction_isolation'), \
            pg_catalog.current_setting('transaction_read_only'), pg_catalog.pg_is_in_recovery()
            """
        ).row(0)
        let isolation = try row[0].string()
        // A standby is read-only whatever its settings are.
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

    /// The part of ``useWorkerSettings()`` that applies to a session of one's own.
    func setWorkerSettings() async throws(PostgresError) {
        guard !isPooled else { return }
        let settings = Self.settings.filter { serverVersion >= $0.since }
        let calls = settings.map { "pg_catalog.set_config('\($0.name)', '\($0.value)', false)" }
        _ = try await query("select \(calls.joined(separator: ", "))")
    }
}
