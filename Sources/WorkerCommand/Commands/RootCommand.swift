import BreakwaterAdmin
package import ArgumentParser
import Foundation

/// `worker`: the root of all commands.
struct RootCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: executableName,
            abstract: "Runs jobs that are rows in Postgres, and keeps an eye on them.",
            discussion: """
                Put the schema into a database, enqueue a job, run it, and see how things stand:

                  export DATABASE_URL=postgresql:///app
                  \(executableName) migrate
                  \(executableName) enqueue file.digest '{"path": "/etc/hosts"}'
                  \(executableName) run --config worker.yaml
                  \(executableName) status

                The database comes from --database, else from DATABASE_URL, else from libpq's own environment \
                (PGHOST, PGSERVICE, …) and service files.

                \(CommandFailure.help)
                """,
            version: WorkerCommand.versionText,
            subcommands: ownSubcommands + WorkerCommand.addedSubcommands
        )
    }

    /// The subcommands of every executable that links this library, in the order of the help.
    private static var ownSubcommands: [any ParsableCommand.Type] {
        [
            RunCommand.self, MigrateCommand.self, EnqueueCommand.self, StatusCommand.self, TailCommand.self,
            CircuitsCommand.self, LimitsCommand.self, IncidentsCommand.self, EndpointsCommand.self,
            DeadLettersCommand.self, SchedulesCommand.self, BatchesCommand.self, JobsCommand.self, JobCommand.self,
            CancelCommand.self, RunNowCommand.self, SetPriorityCommand.self, RenameKindCommand.self,
            PauseCommand.self, ResumeCommand.self, DrainCommand.self, UndrainCommand.self,
            DashboardCommand.self, HealthcheckCommand.self, StdioCheckCommand.self,
        ]
    }

    /// The name in usage texts is the name of the executable, because an application that links handlers has its own.
    static var executableName: String {
        let path = CommandLine.arguments.first ?? ""
        let name = URL(filePath: path.isEmpty ? "worker" : path).lastPathComponent
        return name.hasSuffix(".xctest") ? "worker" : name
    }
}

/// The option that says where the database is.
package struct DatabaseOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The database, as a URL or a connection string. Else DATABASE_URL, else libpq's environment.",
            valueName: "conninfo"
        )
    )
    package var database: String?

    package init() {}
}

/// The option that selects tables or JSON.
package struct OutputOptions: ParsableArguments {
    @Flag(help: "Print one JSON document instead of tables. Times are RFC 3339, durations are seconds.")
    package var json = false

    package init() {}
}

/// The option of lists for how much they show.
struct MostShown: ParsableArguments {
    @Option(help: "The most to show.")
    var limit = 50

    func validate() throws {
        guard limit > 0 else { throw ValidationError("--limit \(limit) is not allowed; give at least 1.") }
    }
}

/// A duration on the command line.
package struct DurationArgument: ExpressibleByArgument, Equatable {
    package var duration: Duration

    package init?(argument: String) {
        guard let duration = try? Duration(text: argument) else { return nil }
        self.duration = duration
    }
}
