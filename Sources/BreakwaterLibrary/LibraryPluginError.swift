/// The reason why a ``LibraryPlugin`` cannot be made.
public struct LibraryPluginError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The kind of problem.
    public enum Code: Sendable, Equatable {
        /// The path has no slash, or contains a NUL.
        case invalidPath
        /// There is no such file, or it cannot be read.
        case fileNotFound
        /// The file is no shared library for this processor, or the system's loader refuses it.
        case notLoadable
        /// The library has no function of the entry's name, or the name is not allowed.
        case missingEntry
        /// The library is built for a version of the interface that this worker does not have.
        case unsupportedVersion
        /// The table of functions that the entry returns is NULL, too small, or has no `run`.
        case invalidHandler
        /// The settings are not a JSON object.
        case invalidSettings
        /// A number is out of range.
        case invalidLimit
    }

    /// The kind of problem.
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
