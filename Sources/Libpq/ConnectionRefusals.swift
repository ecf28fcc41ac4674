import Glibc

/// What libpq says when no server took the connection: some lines for each server that it tried, with the SQLSTATEs of
/// refusals (`PQERRORS_VERBOSE`).
struct ConnectionRefusals {
    private let lines: [String]

    init(_ text: String) {
        // In the midst of an attempt, libpq has begun a line that does not say anything yet. And where in Postgres'
        // source a refusal comes from helps nobody.
        lines = PostgresError.lines(of: text).filter { line in
            !line.hasSuffix("failed: ") && !line.hasSuffix("failed:") && !line.hasPrefix("LOCATION:")
        }
    }

    /// One line for people.
    var message: String {
        lines.map { $0.replacing(#/(FATAL|ERROR|PANIC): +[0-9A-Z]{5}: /#) { "\($0.output.1):  " } }.joined(
            separator: "; "
        )
    }

    /// Whether each server was away: nothing listens there, it is starting up or shutting down, or it only reads.
    var areAbsences: Bool {
        let servers = lines.filter { $0.hasPrefix("connection to server ") }
        return !servers.isEmpty && servers.allSatisfy { line in Self.absences.contains { line.contains($0) } }
    }

    /// `cannot_connect_now`; what libpq says of standbys where `target_session_attrs` excludes them; and the system's
    /// own words, as libpq has them.
    private static let absences =
        [" 57P03: ", "session is read-only", "server is in hot standby mode"]
        + [ECONNREFUSED, ENOENT].map { String(cString: strerror($0)) }
}
