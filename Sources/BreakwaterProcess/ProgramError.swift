/// The error for a command that cannot run: its program, its directory or its environment is invalid.
package struct ProgramError: Error, Sendable, Equatable {
    package enum Code: Sendable, Equatable {
        /// The command has no words, or a word that cannot be an argument.
        case invalidCommand
        /// There is no such program, or it is not executable.
        case executableNotFound
        /// The working directory is not a directory.
        case invalidWorkingDirectory
        /// A variable's name or value is invalid.
        case invalidEnvironment
    }

    package var code: Code
    /// The problem and the value at fault, for people.
    package var message: String

    init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }
}
