import Breakwater
import BreakwaterAdmin
import ArgumentParser
import Foundation

/// `worker status`: shows the depth and age of the queues, the workers, and what holds jobs up.
struct StatusCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "status",
            abstract: "Show queues, workers, and whatever keeps jobs from running.",
            discussion: """
                Examples:

                  worker status
                  worker status --watch
                  worker status --json | jq '.jobs[] | select(.workers == 0)'

                With --watch it fills the terminal and draws itself again, circuits first, until ctrl-C or q. Where \
                standard output is no terminal it prints one status after the other instead; with --json, one a line.

                Why one job is not running: worker job 4711, or the view breakwater.job_status in SQL.
                """
        )
    }

    @Flag(help: "Show it again and again, with rates.")
    var watch = false

    @Option(help: ArgumentHelp("With --watch: how often. Defaults to 2s.", valueName: "duration"))
    var interval: DurationArgument?

    @OptionGroup var database: DatabaseOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        if let interval {
            guard watch else { throw ValidationError("--interval goes with --watch.") }
            guard interval.duration >= .milliseconds(100) else {
                throw ValidationError("--interval \(interval.duration.text) is not allowed; give at least 100ms.")
            }
        }
    }

    func run() async throws {
        if watch {
            try await StatusWatch(
                database: database.database,
                isJSON: output.json,
                interval: interval?.duration ?? .seconds(2)
            ).run()
            return
        }
        let status = try await AdminDatabase.with(database.database) { try await $0.fleetStatus() }
        if output.json {
            Terminal.write(status.json)
        } else {
            status.print()
        }
    }
}

extension AdminDatabase {
    /// Everything that `worker status` shows.
    func fleetStatus() async throws -> FleetStatus {
        // The lock waits are read first, because the sessions that hold locks may block the queries below.
        let lockWaits = try await lockWaits().filter { $0.longest >= .seconds(1) }
        return FleetStatus(
            lockWaits: lockWaits,
            depths: try await depths(),
            running: try await runningJobs(limit: FleetStatus.mostRunning),
            workers: try await workers(),
            circuits: try await circuits().filter { $0.state != "closed" || $0.override != nil },
            suspensions: try await suspensions(),
            pauses: try await pauses(),
            limits: try await limits().filter { $0.heldBack > 0 },
            deadLetters: try await deadLetterCounts(),
            schedules: try await idleSchedules(limit: FleetStatus.mostSchedules)
        )
    }
}

extension FleetStatus {
    /// Prints the whole status as tables.
    func print() {
        for (title, table) in tables {
            Terminal.write(title)
            Terminal.write(table)
            Terminal.write("")
        }
        for sentence in sentences { Terminal.write(sentence.escapingControlCharacters) }
    }
}
