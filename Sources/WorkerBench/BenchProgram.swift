import Breakwater
import BreakwaterExec
import BreakwaterHTTP
import BreakwaterStdio
import Logging

/// The program or the receiver that runs a benchmark's jobs, instead of a handler in Swift that does nothing.
struct BenchProgram: Equatable {
    enum Plugin: Equatable {
        /// One process for each job.
        case exec
        /// A pool of long-lived processes.
        case stdio(processes: Int, jobs: Int, ahead: Int)
        /// A request for each job, to the URL that is the command's only word.
        case http(isSigned: Bool)
    }

    /// The key that signs requests. Any key takes the same time.
    private static let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

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
        case .http(let isSigned):
            let plugin = try HTTPPlugin(
                url: command[0],
                secret: isSigned ? Self.secret : nil,
                allow: ["127.0.0.0/8"]
            )
            return CountingPlugin(plugin: plugin, runs: runs)
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
        case .http(let isSigned):
            return ["--http", words] + (isSigned ? ["--http-signed"] : [])
        }
    }
}

/// A plugin that counts the runs of another one, which suspends while it waits.
private struct CountingPlugin: SuspendingPlugin {
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
