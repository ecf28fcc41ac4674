/// The keys of plugins that run a command: `command`, `environment`, `inherit` and `working_directory`.
struct ProgramSettings {
    var command: [String]
    var environment: [String: String]
    var inherit: [String]
    var workingDirectory: String?

    /// - Parameters:
    ///   - section: The plugin's section.
    ///   - example: A command, for the message when there is none.
    init(_ section: ConfigurationSection, example: String) {
        let argument = ValueRule<String>(
            allowed: "a text without NUL",
            parse: { $0.utf8.contains(0) ? nil : $0 },
            text: { $0 }
        )
        let variable = ValueRule<String>(
            allowed: "the name of an environment variable: letters, digits and _",
            parse: { $0.wholeMatch(of: /[A-Za-z_][A-Za-z0-9_]*/) == nil ? nil : $0 },
            text: { $0 }
        )
        command = section.readList("command", of: argument, default: [])
        if command.first?.isEmpty ?? true {
            section.report("command", "there is no program to run; give a list that begins with one: \(example)")
        }
        environment = Dictionary(
            section.readTexts("environment", name: variable).map { ($0.name, $0.value) }
        ) { $1 }
        inherit = section.readList("inherit", of: variable, default: ["PATH", "HOME", "LANG", "TZ", "TMPDIR"])
        workingDirectory = section.readIfPresent("working_directory", .text("a path", bytes: 1...4096))
    }
}
