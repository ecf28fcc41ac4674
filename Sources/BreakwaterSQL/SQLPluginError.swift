/// The reason why a ``SQLPlugin`` cannot be made.
public struct SQLPluginError: Error, Sendable, CustomStringConvertible {
    /// The kinds of error a caller can tell apart.
    public enum Code: Sendable {
        /// The name of the function has not the form `schema.name`.
        case invalidFunction
        /// The role has no name.
        case invalidRole
        /// The number of connections is out of range.
        case invalidConnections
        /// An element of `discardOn` is no SQLSTATE and no class of SQLSTATEs.
        case invalidDiscardOn
        /// An element of `retryOn` is no SQLSTATE and no class, or is in `discardOn` too.
        case invalidRetryOn
        /// The limit of the result's size is out of range.
        case invalidLimit
    }

    /// The kind of error.
    public var code: Code
    /// The problem and what to do about it, for people.
    public var message: String

    init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// The message.
    public var description: String { message }
}
