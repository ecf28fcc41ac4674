import Breakwater
import BreakwaterExec
import BreakwaterStdio
import Logging

/// The program that runs a benchmark's jobs, instead of a handler in Swift that does nothing.
struct BenchProgram: Equatable {
    enum Plugin: Equatable {
        /// One process for each job.
        case exec
        /// A pool of long-lived processes.
        case stdio(processes: Int, jobs: Int, ahead: Int)
    }

    var plugin: Plugin
    var command: [String]

    /// The plugin, which counts its runs.
    func plugin(counting runs: RunCount) throws -> any HandlerPlugin {
        switch plugin {
        case .exec:
            return CountingPlugin(plugin: try ExecPlugin(command: command), runs: runs)
        case .stdio(let processes, let jobs, let ahead):
            var settings = StdioSettings()
            settings.processes = processes
            settings.jobs = jobs
            settings.ahead = ahead
            return CountingPlugin(plugin: try StdioPlugin(command: command, settings: settings), runs: runs)
        }
    }

    /// The options of `worker bench` that stand for this program.
    var arguments: [String] {
        let words = command.joined(separator: " ")
        switch plugin {
        case .exec:
            return ["--exec", words]
        case .stdio(let processes, let jobs, let ahead):
            return [
                "--stdio", words, "--stdio-processes", "\(processes)", "--stdio-jobs", "\(jobs)",
                "--stdio-ahead", "\(ahead)",
            ]
        }
    }
}

/// A plugin that counts its runs.
private struct CountingPlugin: HandlerPlugin {
    var plugin: any HandlerPlugin
    var runs: RunCount

    var capacity: Int? { plugin.capacity }

    func start(logger: Logger) async { await plugin.start(logger: logger) }

    func stop() async { await plugin.stop() }

    func run(_ job: Job, context: JobContext) async throws -> JobOutcome {
        runs.add()
        return try await plugin.run(job, context: context)
    }
}
