import Breakwater
import BreakwaterExec

extension PluginFactory {
    /// `exec` runs one process for each job.
    static let exec = PluginFactory(name: "exec") { section, kind in
        let program = ProgramSettings(section, example: "[sha256sum, -b]")
        let maxOutput = section.read("max_output", .bytes(1...(1 << 30)), default: 1 << 20)
        let killAfter = section.read(
            "kill_after",
            .duration(.zero ... .seconds(3600)),
            default: .seconds(5)
        )
        let progress = section.read("progress", .flag, default: false)
        guard section.isFine else { return nil }
        do {
            return try ExecPlugin(
                command: program.command,
                environment: program.environment,
                inherit: program.inherit,
                workingDirectory: program.workingDirectory,
                maxOutputBytes: maxOutput,
                killAfter: killAfter,
                reportsProgress: progress
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
