import CProcess
import Glibc

/// A command with everything that a process of it needs: the program's file, the environment and the directory.
package struct Program: Sendable {
    /// The variables that programs inherit from the worker unless others are named.
    package static let defaultInheritance = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"]

    /// The program as it was given, and its arguments.
    package let command: [String]
    /// The absolute path of the program's file.
    package let executable: String
    package let environment: [String: String]
    /// The directory that the program runs in; nil for the worker's.
    package let workingDirectory: String?

    /// Finds the program and checks the settings.
    ///
    /// - Parameters:
    ///   - command: The program and its arguments.
    ///   - variables: Variables set for the program. They take precedence over inherited ones.
    ///   - names: The variables that the program inherits from the worker if the worker has them.
    ///   - workingDirectory: The directory that the program runs in; nil for the worker's.
    package init(
        command: [String],
        environment variables: [String: String],
        inherit names: [String],
        workingDirectory: String?
    ) throws(ProgramError) {
        environment = try Self.environment(variables, inherit: names)
        executable = try ExecutableSearch(path: environment["PATH"], directory: workingDirectory)
            .executable(of: command)
        self.command = command
        self.workingDirectory = workingDirectory
        Self.ignoreBrokenPipes
        Self.waitForChildren
    }

    private static func environment(
        _ variables: [String: String],
        inherit names: [String]
    ) throws(ProgramError) -> [String: String] {
        var environment: [String: String] = [:]
        for name in names {
            try checkName(name)
            if let value = getenv(name) { environment[name] = String(cString: value) }
        }
        for (name, value) in variables {
            try checkName(name)
            guard !value.utf8.contains(0) else {
                throw ProgramError(.invalidEnvironment, "the value of the variable '\(name)' contains a NUL")
            }
            environment[name] = value
        }
        return environment
    }

    private static func checkName(_ name: String) throws(ProgramError) {
        guard !name.isEmpty, !name.utf8.contains(0), !name.utf8.contains(UInt8(ascii: "=")) else {
            throw ProgramError(
                .invalidEnvironment,
                "\(name.debugDescription) cannot be a variable's name: it must not be empty nor contain '=' or NUL"
            )
        }
    }

    /// Ignores SIGPIPE once the first program is set up, unless the worker handles it, because a program that ends
    /// before it has read its input must not end the worker. Programs start with default signal handling.
    private static let ignoreBrokenPipes: Void = {
        var action = sigaction()
        guard sigaction(SIGPIPE, nil, &action) == 0, action.__sigaction_handler.sa_handler == nil else { return }
        signal(SIGPIPE, SIG_IGN)
    }()

    /// Undoes an ignored SIGCHLD, which a worker can inherit, because the system would then keep no exit status.
    private static let waitForChildren: Void = breakwater_wait_for_children()
}
