extension Connection {
    /// The settings of a session, which override the defaults of its role and database. Every call has its own
    /// deadline, so the server's time limits are off.
    private static let settings: [(name: String, value: String, since: Int)] = [
        // Claims must read rows that other sessions have just committed.
        ("default_transaction_isolation", "read committed", 0),
        ("default_transaction_read_only", "off", 0),
        ("default_transaction_deferrable", "off", 0),
        ("statement_timeout", "0", 0),
        ("idle_session_timeout", "0", 140_000),
        ("idle_in_transaction_session_timeout", "0", 0),
        ("transaction_timeout", "0", 170_000),
        // If this were off, hiding rows by a policy would be an error.
        ("row_security", "on", 0),
        // A plan of a type that is switched off gets a very high cost, so a statement that needs one would first be
        // JIT-compiled, which takes half a second. The functions themselves set the planner settings that they need.
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

    /// Gives this session the settings that Breakwater needs. A session behind a pooler is shared, so it is not
    /// changed.
    ///
    /// - Parameter lockTimeout: How long a statement waits for a lock that another session holds. Defaults to the
    ///   timeout of the call.
    package func useOwnSettings(lockTimeout: Duration = .zero) async throws(PostgresError) {
        guard !isPooled else { return }
        _ = try await pipeline([ownSettings(lockTimeout: lockTimeout)])
    }

    /// The statement that gives the session the settings that Breakwater needs.
    ///
    /// - Parameter lockTimeout: How long a statement waits for a lock that another session holds. Defaults to the
    ///   timeout of the call.
    package nonisolated func ownSettings(lockTimeout: Duration = .zero) -> Statement {
        let settings =
            Self.settings.filter { serverVersion >= $0.since }.map { ($0.name, $0.value) }
            + [("lock_timeout", "\(lockTimeout.wholeMilliseconds)")]
        let calls = settings.map { "pg_catalog.set_config('\($0.0)', '\($0.1)', false)" }
        return Statement("select \(calls.joined(separator: ", "))")
    }
}

extension Duration {
    /// The duration as the server's settings take it. Fractions of a millisecond are cut off.
    package var wholeMilliseconds: Int64 {
        components.seconds * 1000 + components.attoseconds / 1_000_000_000_000_000
    }
}
