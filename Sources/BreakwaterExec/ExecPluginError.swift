import BreakwaterProcess

/// The error for invalid settings of a command.
public struct ExecPluginError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The kind of problem.
    public enum Code: Sendable, Equatable {
        /// The command has no words, or a word that cannot be an argument.
        case invalidCommand
        /// There is no such program, or it is not executable.
        case executableNotFound
        /// The working directory is not a directory.
        case invalidWorkingDirectory
        /// A variable's name or value is invalid.
        case invalidEnvironment
        /// A limit is out of range.
        case invalidLimit
    }

    /// The kind of problem.
    public var code: Code
    /// The problem and the value at fault, for people.
    public var message: String

    init(_ error: ProgramError) {
        code =
            switch error.code {
            case .invalidCommand: .invalidCommand
            case .executableNotFound: .executableNotFound
            case .invalidWorkingDirectory: .invalidWorkingDirectory
            case .invalidEnvironment: .invalidEnvironment
            }
        message = error.message
    }

    init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// The message.
    public var description: String { message }
}
