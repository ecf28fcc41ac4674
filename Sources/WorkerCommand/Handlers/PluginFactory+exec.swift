import Breakwater
import BreakwaterExec

extension PluginFactory {
    /// `exec` runs one process for each job.
    static let exec = PluginFactory(name: "exec") { section, kind in
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
        let command = section.readList("command", of: argument, default: [])
        if command.first?.isEmpty ?? true {
            section.report("command", "there is no program to run; give a list that begins with one: [sha256sum, -b]")
        }
        let environment = section.readTexts("environment", name: variable)
        let inherit = section.readList("inherit", of: variable, default: ["PATH", "HOME", "LANG", "TZ", "TMPDIR"])
        let directory = section.readIfPresent("working_directory", .text("a path", bytes: 1...4096))
        let maxOutput = section.read("max_output", .bytes(1...(1 << 30)), default: 1 << 20)
        let killAfter = section.read(
            "kill_after",
            .duration(.zero ... .seconds(3600)),
            default: .seconds(5)
        )
        guard section.isFine else { return nil }
        do {
            return try ExecPlugin(
                command: command,
                environment: Dictionary(environment.map { ($0.name, $0.value) }) { $1 },
                inherit: inherit,
                workingDirectory: directory,
                maxOutputBytes: maxOutput,
                killAfter: killAfter
            )
        } catch let error as ExecPluginError {
            section.report(error.code.key, error.message)
            return nil
        }
    }
}

extension ExecPluginError.Code {
    /// The key whose value is at fault.
    fileprivate var key: String {
        switch self {
        case .invalidCommand, .executableNotFound: "command"
        case .invalidWorkingDirectory: "working_directory"
        case .invalidEnvironment: "environment"
        case .invalidLimit: "max_output"
        }
    }
}
