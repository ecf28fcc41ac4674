/// Settings that a role, a database or a server may have, and with which Breakwater must work.
public enum SessionSettings {
    /// Settings that a session begins with, and their description for the test.
    public struct Case: Sendable, CustomStringConvertible {
        /// What is special about the settings.
        public var description: String
        /// The names and values for ALTER DATABASE … SET.
        public var settings: [(name: String, value: String)]
    }

    /// The settings to test. If a name has several values, the first and the last are combined with the other settings.
    private static let all: [(name: String, values: [String])] = [
        ("default_transaction_isolation", ["serializable", "'repeatable read'"]),
        ("default_transaction_read_only", ["on"]),
        ("default_transaction_deferrable", ["on"]),
        ("statement_timeout", ["10000"]),
        ("lock_timeout", ["1"]),
        ("idle_session_timeout", ["2000"]),
        ("idle_in_transaction_session_timeout", ["20"]),
        ("transaction_timeout", ["10000"]),
        ("standard_conforming_strings", ["off"]),
        ("backslash_quote", ["off"]),
        ("array_nulls", ["off"]),
        ("transform_null_equals", ["on"]),
        ("bytea_output", ["escape"]),
        ("extra_float_digits", ["-15"]),
        ("DateStyle", ["'SQL, DMY'", "German"]),
        ("IntervalStyle", ["sql_standard", "postgres_verbose"]),
        ("TimeZone", ["'Pacific/Chatham'"]),
        ("search_path", ["''", "nowhere"]),
        ("row_security", ["off"]),
        ("session_replication_role", ["replica"]),
        ("synchronous_commit", ["off", "remote_apply"]),
        ("jit", ["on"]),
        ("jit_above_cost", ["0"]),
        ("plan_cache_mode", ["force_generic_plan", "force_custom_plan"]),
        ("check_function_bodies", ["off"]),
        ("client_encoding", ["LATIN1", "SQL_ASCII"]),
    ]

    private static let scans = ["seqscan", "indexscan", "indexonlyscan", "bitmapscan", "tidscan"]
    private static let joins = ["sort", "hashagg", "hashjoin", "mergejoin", "nestloop", "material"]

    private static func off(_ ways: [String]) -> [(name: String, value: String)] {
        ways.map { ("enable_\($0)", "off") }
    }

    /// Each setting alone.
    public static let alone =
        all.flatMap { setting in
            setting.values.map { Case(description: "\(setting.name) = \($0)", settings: [(setting.name, $0)]) }
        } + [
            // This timeout is short. The test makes a call of the worker take longer.
            Case(description: "a short statement_timeout", settings: [("statement_timeout", "800")]),
            Case(description: "a short transaction_timeout", settings: [("transaction_timeout", "800")]),
            Case(description: "enable_… = off for scans", settings: off(scans)),
            Case(description: "enable_… = off for joins", settings: off(joins)),
        ]

    /// All settings together, and halves of them. Any two settings are together in at least one half, in which others
    /// are missing.
    public static let together: [Case] = {
        let firsts = all.map { ($0.name, $0.values[0]) } + off(scans + joins)
        let lasts = all.map { ($0.name, $0.values[$0.values.count - 1]) }
        var cases = [
            Case(description: "all", settings: firsts), Case(description: "all, other values", settings: lasts),
        ]
        var bit = 1
        while bit < all.count {
            let half = lasts.enumerated().filter { $0.offset & bit == 0 }.map(\.element)
            let rest = lasts.enumerated().filter { $0.offset & bit != 0 }.map(\.element)
            cases.append(Case(description: "those whose number has no \(bit)", settings: half))
            cases.append(Case(description: "those whose number has \(bit)", settings: rest))
            bit *= 2
        }
        return cases
    }()
}

extension TestDatabase {
    /// Sets these settings for sessions that begin from now on. Settings that this server does not know are left out.
    ///
    /// - Parameters:
    ///   - settings: The settings.
    ///   - role: The role whose sessions get the settings. Defaults to all roles on this database.
    /// - Throws: `PostgresError`.
    public func set(_ settings: [(name: String, value: String)], role: String? = nil) async throws {
        let whose = role.map { "role \($0) in database \(name)" } ?? "database \(name)"
        let known = Set(try await texts("select lower(name) from pg_settings"))
        for setting in settings where known.contains(setting.name.lowercased()) {
            try await query("alter \(whose) set \(setting.name) = \(setting.value)")
        }
    }
}
