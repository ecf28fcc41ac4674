import ArgumentParser
import BreakwaterAdmin

/// `worker incidents`: shows what happened while circuits were open, and what it cost.
struct IncidentsCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "incidents",
            abstract: "Show incidents: the time from a circuit's first opening to its close, and what it cost.",
            discussion: """
                Examples:

                  worker incidents
                  worker incidents --kind webhook.deliver --since 7d
                  worker incidents show 12
                  worker dead-letters redrive --incident 12

                A circuit that opens again soon after it closed continues its last incident. Incidents are kept for a \
                year.
                """,
            subcommands: [List.self, Show.self],
            defaultSubcommand: List.self
        )
    }
}

extension IncidentsCommand {
    /// `worker incidents list`.
    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list",
            abstract: "List incidents, the newest first.",
            discussion: """
                Example:

                  worker incidents list --kind webhook.deliver --since 7d --json

                WAITED: the most jobs behind the circuit at once, and how long the oldest had waited. SPENT: failed \
                calls that cost an attempt; BACK: those whose attempt was handed back. DIED: jobs that became dead \
                letters. SPARED: an estimate of the calls that were not made, at the rate of the ten minutes before.
                """
        )

        @Option(help: "Only those of this kind, or of the shared circuit of this name.")
        var kind: String?

        @Option(help: "Only those of the circuit of this key.")
        var key: String?

        @Option(help: "Only those that began at most so long ago, such as 7d, or go on.")
        var since: DurationArgument?

        @OptionGroup var most: MostShown
        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let filter = IncidentFilter(kind: kind, key: key, since: since?.duration)
            let incidents = try await AdminDatabase.with(database.database) {
                try await $0.incidents(filter, limit: most.limit)
            }
            if output.json {
                Terminal.write(.array(incidents.map { $0.json(isWhole: false) }))
            } else if incidents.isEmpty {
                Terminal.write("There were no incidents\(filter == IncidentFilter() ? "" : " of these").")
            } else {
                Terminal.write(Incident.table(incidents))
                if incidents.count == most.limit {
                    Terminal.complain("Only the newest \(most.limit) are shown; --limit shows more.")
                }
            }
        }
    }

    /// `worker incidents show`.
    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show",
            abstract: "Show one incident: its cause, how long it lasted, and what it cost.",
            discussion: "Example:\n\n  worker incidents show 12"
        )

        @Argument(help: "Its id.")
        var id: Int64

        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let incident = try await AdminDatabase.with(database.database) { admin in
                guard let incident = try await admin.incident(id: id) else { throw CommandFailure.noIncident(id) }
                return incident
            }
            if output.json {
                Terminal.write(incident.json(isWhole: true))
                return
            }
            Terminal.write(details: incident.details)
            if let left = incident.counts.deadLettersLeft, left > 0 {
                Terminal.write("\nTo put its dead letters back: worker dead-letters redrive --incident \(id)")
            }
        }
    }
}

extension CommandFailure {
    static func noIncident(_ id: Int64) -> CommandFailure {
        CommandFailure(.refused, "there is no incident \(id); they are kept for a year.\nRun: worker incidents list")
    }
}
