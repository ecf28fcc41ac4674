import Breakwater
import Libpq

extension CommandFailure {
    /// Advice for the case that this is the wrong database.
    static let otherDatabase =
        "Give another one by --database, DATABASE_URL, or libpq's own variables (PGHOST, PGUSER, …)."

    /// Turns an error of the database into a failure of the command.
    ///
    /// - Parameters:
    ///   - error: The error of the database or of the connection.
    ///   - place: Where the database is, without passwords.
    init(_ error: PostgresError, at place: String) {
        switch error.code {
        case .connectionFailed:
            self.init(
                Self.isAboutPermission(error) ? .noPermission : .unavailable,
                "cannot connect to the database (\(place)): \(error.text)\n"
                    + Self.otherDatabase
            )
        case .connectionLost, .timedOut:
            self.init(
                .unavailable,
                "the database (\(place)) did not answer: \(error.text)\n"
                    + "What was asked may or may not have happened; look before you repeat it."
            )
        case .server:
            self.init(sqlState: error.sqlState ?? "", text: error.text, place: place)
        case .invalidParameter:
            self.init(.usage, "this cannot be sent to the database: \(error.text)")
        default:
            self.init(.unexpected, "unexpected: \(error) (database: \(place))")
        }
    }

    /// Turns an error about the schema or the configuration into a failure of the command.
    init(_ error: BreakwaterError, at place: String) {
        self.init(.configuration, "\(error.message) (database: \(place))")
    }

    /// Classifies an error of the server by its SQLSTATE (PostgreSQL's manual, appendix A).
    private init(sqlState: String, text: String, place: String) {
        switch sqlState {
        case "42501":
            self.init(
                .noPermission,
                "not permitted (\(place)): \(text)\n"
                    + "Grant the user a role: breakwater_enqueue, breakwater_worker or breakwater_admin."
            )
        case "3F000", "42P01", "42883", "42703":
            self.init(
                .configuration,
                "the schema of this database (\(place)) is not the one this program needs: \(text)\n"
                    + "Run: worker migrate"
            )
        case "25006":
            self.init(
                .unavailable,
                "this session (\(place)) may not write: \(text)\n"
                    + "Either the server is a standby: name every server in the URL, and add "
                    + "target_session_attrs=read-write to it. Or the role or the database has "
                    + "default_transaction_read_only = on: ALTER ROLE … SET default_transaction_read_only = off"
            )
        case "55P03":
            self.init(
                .unavailable,
                "a lock was not given in time, for somebody else has it (\(place)): \(text)\n"
                    + "Nothing was changed. Run it again, or end that transaction: SELECT * FROM breakwater.lock_waits()"
            )
        case "55006":
            self.init(.refused, text)
        case _ where sqlState.hasPrefix("08") || sqlState.hasPrefix("53") || sqlState.hasPrefix("57"):
            self.init(.unavailable, "the database (\(place)) cannot answer now: \(text)")
        case _ where sqlState.hasPrefix("22") || sqlState.hasPrefix("54"):
            // The value is invalid, or exceeds a limit of Postgres.
            self.init(.usage, text)
        case _ where sqlState.hasPrefix("23") || sqlState.hasPrefix("P0"):
            self.init(.refused, text)
        default:
            self.init(.unexpected, "unexpected: \(text) (SQLSTATE \(sqlState), database: \(place))")
        }
    }

    /// Before version 18, libpq reports a failed login without its SQLSTATE, so the server's message decides.
    private static func isAboutPermission(_ error: PostgresError) -> Bool {
        if let state = error.sqlState { return state.hasPrefix("28") || state == "42501" }
        return [
            "authentication failed", "FATAL:  role ", "no pg_hba.conf entry", "permission denied",
            "is not permitted to log in",
            // This is the message of a pooler.
            "no such user",
        ]
        .contains { error.message.contains($0) }
    }
}

extension PostgresError {
    /// The message with the server's detail and hint.
    fileprivate var text: String {
        let more = [detail, hint].compactMap(\.self).joined(separator: " ")
        return more.isEmpty ? message : "\(message)\n\(more)"
    }
}
