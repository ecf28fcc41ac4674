import CLibpq

/// The fields of libpq's error reports that are read here. Their codes are those of the wire protocol.
enum DiagnosticField: UInt8 {
    case severity = 0x56  // V
    case sqlState = 0x43  // C
    case message = 0x4D  // M
    case detail = 0x44  // D
    case hint = 0x48  // H
    case position = 0x50  // P
    case context = 0x57  // W
    case constraint = 0x6E  // n

    /// The field of `result`, or nil when the server did not send it.
    func read(_ result: OpaquePointer) -> String? {
        PQresultErrorField(result, Int32(rawValue)).map { String(cString: $0) }
    }
}

extension PostgresError {
    /// The error that the server, or libpq itself, put into `result`.
    ///
    /// A FATAL or PANIC error ends the session, so it is a lost connection rather than a refused statement.
    init(result: OpaquePointer, statement: Int?) {
        let severity = DiagnosticField.severity.read(result)
        let sqlState = DiagnosticField.sqlState.read(result)
        let ends = severity == "FATAL" || severity == "PANIC" || sqlState == nil
        self.init(
            ends ? .connectionLost : .server,
            DiagnosticField.message.read(result) ?? Self.tidy(String(cString: PQresultErrorMessage(result))),
            sqlState: sqlState,
            detail: Self.showsRow(sqlState) ? nil : DiagnosticField.detail.read(result),
            hint: DiagnosticField.hint.read(result),
            statement: statement
        )
        context = DiagnosticField.context.read(result)
        constraint = DiagnosticField.constraint.read(result)
        position = DiagnosticField.position.read(result).flatMap { Int($0) }
    }

    /// Whether the server's DETAIL is the whole refused row with its payload, which must not be logged:
    /// `check_violation`, `not_null_violation`, and `with_check_option_violation`.
    private static func showsRow(_ sqlState: String?) -> Bool {
        ["23514", "23502", "44000"].contains(sqlState)
    }

    /// libpq's text as one line for logs, without line breaks, indentation and trailing space.
    static func tidy(_ text: String) -> String { lines(of: text).joined(separator: "; ") }

    /// The non-empty lines of libpq's text, without indentation.
    static func lines(of text: String) -> [String] {
        text.split(whereSeparator: \.isNewline)
            .map { line in String(line.drop(while: \.isWhitespace)) }
            .filter { !$0.isEmpty }
    }

    /// libpq's error message for `connection`.
    static func lastMessage(of connection: OpaquePointer) -> String {
        tidy(String(cString: PQerrorMessage(connection)))
    }
}
