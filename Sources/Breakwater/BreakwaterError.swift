/// An error of Breakwater itself. Errors of the database are `PostgresError`s.
public struct BreakwaterError: Error, Sendable, CustomStringConvertible {
    /// The kinds of error a caller can tell apart.
    public enum Code: Sendable {
        /// The database has no Breakwater schema.
        case schemaMissing
        /// The schema is older than this version needs.
        case schemaOlder
        /// The schema is newer than this version knows.
        case schemaNewer
        /// A setting is invalid.
        case invalidConfiguration
        /// The database's sessions have a setting that a worker can neither work with nor change.
        case unsuitableDatabase
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
