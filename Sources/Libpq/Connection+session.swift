extension Connection {
    /// What a session needs, whatever defaults its role or its database has. Every call has a deadline of its own, so
    /// none of the server's time limits is wanted.
    private static let settings: [(name: String, value: String, since: Int)] = [
        // Claims read what others have just committed.
        ("default_transaction_isolation", "read committed", 0),
        ("default_transaction_read_only", "off", 0),
        ("default_transaction_deferrable", "off", 0),
        ("statement_timeout", "0", 0),
        ("idle_session_timeout", "0", 140_000),
        ("idle_in_transaction_session_timeout", "0", 0),
        ("transaction_timeout", "0", 170_000),
        // Off, it would make errors of what a policy merely hides.
        ("row_security", "on", 0),
        // A kind of plan that is switched off counts as so costly that a statement which needs it would be compiled
        // first, for half a second; the functions set themselves what they want of the planner.
        ("jit", "off", 0),
        ("plan_cache_mode", "auto", 0),
        ("enable_seqscan", "on", 0),
        ("enable_indexscan", "on", 0),
        ("enable_indexonlyscan", "on", 0),
        ("enable_bitmapscan", "on", 0),
        ("enable_tidscan", "on", 0),
        ("enable_sort", "on", 0),
        ("enable_hashagg", "on", 0),
        ("enable_hashjoin", "on", 0),
        ("enable_mergejoin", "on", 0),
        ("enable_nestloop", "on", 0),
        ("enable_material", "on", 0),
    ]

    /// Gives this session the settings that Breakwater needs. A session behind a pooler is shared, so it is left alone.
    ///
    /// - Parameter lockTimeout: How long a statement waits for a lock that another session has. Defaults to as long as
    ///   the call may take.
    package func useOwnSettings(lockTimeout: Duration = .zero) async throws(PostgresError) {
        guard !isPooled else { return }
        let milliseconds =
            lockTimeout.components.seconds * 1000 + lockTimeout.components.attoseconds / 1_000_000_000_000_000
        let settings =
            Self.settings.filter { serverVersion >= $0.since }.map { ($0.name, $0.value) }
            + [("lock_timeout", "\(milliseconds)")]
        let calls = settings.map { "pg_catalog.set_config('\($0.0)', '\($0.1)', false)" }
        _ = try await query("select \(calls.joined(separator: ", "))")
    }
}
