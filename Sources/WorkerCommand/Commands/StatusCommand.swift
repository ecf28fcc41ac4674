import BreakwaterAdmin
import ArgumentParser

/// `worker status`: how deep, how old, who works, and what stands in the way.
struct StatusCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "status",
            abstract: "Show queues, workers, and whatever keeps jobs from running.",
            discussion: """
                Examples:

                  worker status
                  worker status --json | jq '.jobs[] | select(.workers == 0)'

                Why one job is not running: worker job 4711, or the view breakwater.job_status in SQL.
                """
        )
    }

    @OptionGroup var database: DatabaseOptions
    @OptionGroup var output: OutputOptions

    func run() async throws {
        let status = try await AdminDatabase.with(database.database) { admin in
            FleetStatus(
                depths: try await admin.depths(),
                workers: try await admin.workers(),
                circuits: try await admin.circuits().filter { $0.state != "closed" || $0.override != nil },
                suspensions: try await admin.suspensions(),
                pauses: try await admin.pauses(),
                deadLetters: try await admin.deadLetterCounts()
            )
        }
        if output.json {
            Terminal.write(status.json)
            return
        }
        for (title, table) in status.tables {
            Terminal.write(title)
            Terminal.write(table)
            Terminal.write("")
        }
        for sentence in status.sentences { Terminal.write(sentence.escapingControlCharacters) }
    }
}
