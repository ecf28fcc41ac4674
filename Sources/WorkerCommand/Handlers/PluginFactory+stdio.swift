import Breakwater
import BreakwaterStdio

extension PluginFactory {
    /// `stdio` runs jobs in a pool of long-lived processes.
    static let stdio = PluginFactory(name: "stdio") { section, kind in
        let program = ProgramSettings(section, example: "[python3, handler.py]")
        let settings = StdioSettings(section)
        guard section.isFine else { return nil }
        do {
            return try StdioPlugin(
                command: program.command,
                environment: program.environment,
                inherit: program.inherit,
                workingDirectory: program.workingDirectory,
                settings: settings
            )
        } catch let error as StdioPluginError {
            section.report(error.code.key, error.message)
            return nil
        }
    }
}

extension StdioSettings {
    /// Reads the keys of a pool of processes.
    init(_ section: ConfigurationSection) {
        self.init()
        processes = section.read("processes", .whole(Self.processesRange), default: processes)
        jobs = section.read("jobs", .whole(Self.jobsRange), default: jobs)
        ahead = section.read("ahead", .whole(Self.aheadRange), default: ahead)
        let inner = section.readSection("recycle")
        recycle.jobs = inner.read("jobs", ValueRule.whole(Self.recycleJobsRange).orOff(), default: recycle.jobs)
        recycle.age = inner.read("age", ValueRule.duration(Self.recycleAgeRange).orOff(), default: recycle.age)
        recycle.memoryBytes = inner.read(
            "memory",
            ValueRule.bytes(Self.recycleMemoryRange).orOff(),
            default: recycle.memoryBytes
        )
        section.record(inner, as: "recycle")
        startTimeout = section.read("start_timeout", .duration(Self.startTimeoutRange), default: startTimeout)
        silence = section.read("silence", .duration(Self.silenceRange), default: silence)
        killAfter = section.read("kill_after", .duration(Self.killAfterRange), default: killAfter)
        maxLineBytes = section.read("max_line", .bytes(Self.maxLineRange), default: maxLineBytes)
    }
}

extension StdioPluginError.Code {
    /// The key whose value is at fault.
    fileprivate var key: String {
        switch self {
        case .invalidCommand, .executableNotFound: "command"
        case .invalidWorkingDirectory: "working_directory"
        case .invalidEnvironment: "environment"
        case .invalidSetting: "processes"
        }
    }
}
