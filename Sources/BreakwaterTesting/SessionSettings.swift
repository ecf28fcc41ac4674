/// Settings that a role, a database or a server may have, and that Breakwater must live with.
public enum SessionSettings {
    /// Settings that a session begins with, under a name for the test.
    public struct Case: Sendable, CustomStringConvertible {
        /// What is special about them.
        public var description: String
        /// The names and values, as ALTER DATABASE … SET takes them.
        public var settings: [(name: String, value: String)]
    }

    /// What to live with. Where a name has several values, the first and the last are combined with the others.
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

    /// Each setting by itself.
    public static let alone =
        all.flatMap { setting in
            setting.values.map { Case(description: "\(setting.name) = \($0)", settings: [(setting.name, $0)]) }
        } + [
            // Short: a call of the worker takes longer where the test sees to it.
            Case(description: "a short statement_timeout", settings: [("statement_timeout", "800")]),
            Case(description: "a short transaction_timeout", settings: [("transaction_timeout", "800")]),
            Case(description: "enable_… = off for scans", settings: off(scans)),
            Case(description: "enable_… = off for joins", settings: off(joins)),
        ]

    /// All settings together, and halves of them, such that any two are together in one where others are missing.
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
    /// Gives the sessions that begin from now on these settings; what this server does not know is left out.
    ///
    /// - Parameters:
    ///   - settings: The settings.
    ///   - role: The role whose sessions are meant. Defaults to all roles on this database.
    /// - Throws: `PostgresError`.
    public func set(_ settings: [(name: String, value: String)], role: String? = nil) async throws {
        let whose = role.map { "role \($0) in database \(name)" } ?? "database \(name)"
        let known = Set(try await texts("select lower(name) from pg_settings"))
        for setting in settings where known.contains(setting.name.lowercased()) {
            try await query("alter \(whose) set \(setting.name) = \(setting.value)")
        }
    }
}
