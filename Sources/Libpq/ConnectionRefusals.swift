import Glibc

/// libpq's message when no server accepted the connection. It has some lines for each server that was tried, with the
/// SQLSTATEs of refusals (`PQERRORS_VERBOSE`).
struct ConnectionRefusals {
    private let lines: [String]

    init(_ text: String) {
        // During an attempt, libpq has begun a line that has no content yet. The location in Postgres's source is not
        // useful either.
        lines = PostgresError.lines(of: text).filter { line in
            !line.hasSuffix("failed: ") && !line.hasSuffix("failed:") && !line.hasPrefix("LOCATION:")
        }
    }

    /// The message for people, on one line.
    var message: String {
        lines.map { $0.replacing(#/(FATAL|ERROR|PANIC): +[0-9A-Z]{5}: /#) { "\($0.output.1):  " } }.joined(
            separator: "; "
        )
    }

    /// Whether a server gave its reason for a refusal, with a SQLSTATE.
    var areAnswers: Bool { lines.contains { $0.contains(#/(FATAL|ERROR|PANIC): +[0-9A-Z]{5}: /#) } }

    /// Whether every server was absent: no process listens there, or the server is starting up, shutting down or
    /// read-only.
    var areAbsences: Bool {
        let servers = lines.filter { $0.hasPrefix("connection to server ") }
        return !servers.isEmpty && servers.allSatisfy { line in Self.absences.contains { line.contains($0) } }
    }

    /// The texts that show an absence: `cannot_connect_now`, libpq's texts for standbys that `target_session_attrs`
    /// excludes, and the system's error messages.
    private static let absences =
        [" 57P03: ", "session is read-only", "server is in hot standby mode"]
        + [ECONNREFUSED, ENOENT].map { String(cString: strerror($0)) }
}
