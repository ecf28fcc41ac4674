/// An error between this process and a Postgres server.
///
/// Decide by ``code`` (and by ``sqlState`` when the code is ``Code/server``); show ``description`` to people. No
/// field holds a password.
public struct PostgresError: Error, Sendable, Hashable {
    /// The kinds of failure a caller can tell apart.
    public struct Code: Sendable, Hashable, CustomStringConvertible {
        private let name: String

        /// The name of the code, for logs and metric labels.
        public var description: String { name }

        /// No connection could be made: the address is wrong, the connection was refused or rejected by the server, or
        /// no answer arrived in time.
        public static let connectionFailed = Code(name: "connection_failed")
        /// The connection ended. Calls in flight may or may not have taken effect.
        public static let connectionLost = Code(name: "connection_lost")
        /// The call's deadline passed before its answer arrived.
        public static let timedOut = Code(name: "timed_out")
        /// The task that waited for the call was cancelled.
        public static let cancelled = Code(name: "cancelled")
        /// The server refused a statement; see ``PostgresError/sqlState``.
        public static let server = Code(name: "server")
        /// A parameter cannot be sent; nothing was sent.
        public static let invalidParameter = Code(name: "invalid_parameter")
        /// A value of a result does not have the requested type.
        public static let decoding = Code(name: "decoding")
        /// The call itself is invalid (for example, its SQL contains U+0000). Nothing was sent.
        public static let misuse = Code(name: "misuse")
    }

    /// The kind of failure.
    public var code: Code
    /// A description for people, with what to do about it if that is known.
    public var message: String
    /// The server's five-character SQLSTATE, when the failure came from the server.
    public var sqlState: String?
    /// The server's DETAIL.
    public var detail: String?
    /// The server's HINT.
    public var hint: String?
    /// The server's CONTEXT: the call stack of the functions in which the error occurred.
    public var context: String?
    /// The constraint that was violated, when the server named one.
    public var constraint: String?
    /// The position of the error in the statement's text: a character offset, starting from 1.
    public var position: Int?
    /// The index of the failed statement of a pipeline, starting from 0.
    public var statement: Int?
    /// Whether no connection could be made because every server that was tried refused it, is starting up or shutting
    /// down, or is a standby. In that case no other client can be served either, unless only this client was refused.
    public var isServerAbsent = false

    /// Makes an error. Values that are not given are unknown.
    public init(
        _ code: Code,
        _ message: String,
        sqlState: String? = nil,
        detail: String? = nil,
        hint: String? = nil,
        statement: Int? = nil
    ) {
        self.code = code
        self.message = message
        self.sqlState = sqlState
        self.detail = detail
        self.hint = hint
        self.statement = statement
    }
}

extension PostgresError: CustomStringConvertible {
    /// One line with everything that is known.
    public var description: String {
        var text = "\(code): \(message)"
        if let sqlState { text += " (SQLSTATE \(sqlState))" }
        if let statement { text += " [statement \(statement)]" }
        if let position { text += " [at character \(position)]" }
        if let detail { text += " detail: \(detail)" }
        if let hint { text += " hint: \(hint)" }
        if let context { text += " context: \(context)" }
        return text
    }
}
