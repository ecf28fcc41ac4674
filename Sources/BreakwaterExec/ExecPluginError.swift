/// Why a command cannot be a handler.
public struct ExecPluginError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What is wrong.
    public enum Code: Sendable, Equatable {
        /// The command has no words, or one that no program can be given.
        case invalidCommand
        /// There is no such program, or it is not executable.
        case executableNotFound
        /// The working directory is not a directory.
        case invalidWorkingDirectory
        /// A variable's name or value is not possible in an environment.
        case invalidEnvironment
        /// A limit is out of range.
        case invalidLimit
    }

    /// What is wrong.
    public var code: Code
    /// What is wrong with which value, for people.
    public var message: String

    init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// The message.
    public var description: String { message }
}
