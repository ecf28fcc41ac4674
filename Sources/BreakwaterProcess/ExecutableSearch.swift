import Glibc

/// Finds the program of a command as `execvp` would. Its error says what was searched for, and where.
struct ExecutableSearch {
    /// The `PATH` that the program will see, if any.
    var path: String?
    /// The directory that the program will run in, if it is not the worker's.
    var directory: String?

    /// The absolute path of the command's program.
    func executable(of command: [String]) throws(ProgramError) -> String {
        guard let program = command.first, !program.isEmpty else {
            throw ProgramError(.invalidCommand, "the command is empty: it needs a program, such as [\"sha256sum\"]")
        }
        if let word = command.first(where: { $0.utf8.contains(0) }) {
            throw ProgramError(.invalidCommand, "the command's word \(word.debugDescription) contains a NUL")
        }
        let base = try absoluteDirectory()
        if program.utf8.contains(UInt8(ascii: "/")) {
            let file = program.hasPrefix("/") ? program : "\(base)/\(program)"
            if let problem = problem(with: file) {
                throw ProgramError(.executableNotFound, "the program '\(program)' cannot run: \(file) \(problem)")
            }
            return file
        }
        return try search(for: program)
    }

    private func absoluteDirectory() throws(ProgramError) -> String {
        guard let directory else { return currentDirectory() }
        guard !directory.utf8.contains(0), kind(of: directory) == S_IFDIR else {
            throw ProgramError(
                .invalidWorkingDirectory,
                "the working directory \(directory.debugDescription) is not a directory that exists"
            )
        }
        return directory.hasPrefix("/") ? directory : "\(currentDirectory())/\(directory)"
    }

    private func search(for program: String) throws(ProgramError) -> String {
        guard let path else {
            throw ProgramError(
                .executableNotFound,
                "the program '\(program)' cannot be found: PATH is neither set nor inherited; give the whole path"
            )
        }
        // Empty or relative entries depend on the current directory, which is never searched.
        let directories = path.split(separator: ":").filter { $0.hasPrefix("/") }
        var problems: [String] = []
        for directory in directories {
            let file = "\(directory)/\(program)"
            guard let problem = problem(with: file) else { return file }
            if problem != Self.missing { problems.append("\(file) \(problem)") }
        }
        let found = problems.isEmpty ? "" : " (\(problems.joined(separator: ", ")))"
        throw ProgramError(
            .executableNotFound,
            "the program '\(program)' was not found in PATH, which is \(path)\(found)"
        )
    }

    private static let missing = "does not exist"

    /// The reason why the file cannot be executed; nil if it can.
    private func problem(with file: String) -> String? {
        guard let kind = kind(of: file) else { return Self.missing }
        if kind == S_IFDIR { return "is a directory" }
        if kind != S_IFREG { return "is not a file" }
        return access(file, X_OK) == 0 ? nil : "is not executable"
    }

    private func kind(of file: String) -> mode_t? {
        var status = stat()
        return stat(file, &status) == 0 ? status.st_mode & S_IFMT : nil
    }

    private func currentDirectory() -> String {
        guard let directory = getcwd(nil, 0) else { return "." }
        defer { free(directory) }
        return String(cString: directory)
    }
}
