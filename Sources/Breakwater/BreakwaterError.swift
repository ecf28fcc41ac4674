/// An error of Breakwater itself. Errors of the database are `PostgresError`s.
public struct BreakwaterError: Error, Sendable, CustomStringConvertible {
    /// The kinds of error a caller can tell apart.
    public struct Code: Sendable, Hashable, CustomStringConvertible {
        private let name: String

        /// The name of the code, for logs.
        public var description: String { name }

        /// The database has no Breakwater schema.
        public static let schemaMissing = Code(name: "schema_missing")
        /// The schema is older than this version needs.
        public static let schemaOlder = Code(name: "schema_older")
        /// The schema is newer than this version knows.
        public static let schemaNewer = Code(name: "schema_newer")
        /// A setting is invalid.
        public static let invalidConfiguration = Code(name: "invalid_configuration")
        /// The database's sessions have a setting that a worker can neither work with nor change.
        public static let unsuitableDatabase = Code(name: "unsuitable_database")
        /// The database answered with something that this version cannot read.
        public static let unexpectedAnswer = Code(name: "unexpected_answer")
        /// The client that was called is closed.
        public static let closed = Code(name: "closed")
    }

    /// The kind of error.
    public var code: Code
    /// The problem and what to do about it, for people.
    public var message: String

    package init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// The message.
    public var description: String { message }
}
