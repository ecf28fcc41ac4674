import BreakwaterProcess

/// The error for invalid settings of a pool of processes.
public struct StdioPluginError: Error, Sendable, Equatable, CustomStringConvertible {
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
        /// A number, a size or a duration is out of range.
        case invalidSetting
    }

    /// The kind of problem.
    public var code: Code
    /// The problem and the value at fault, for people.
    public var message: String

    init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

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

    /// The message.
    public var description: String { message }
}
