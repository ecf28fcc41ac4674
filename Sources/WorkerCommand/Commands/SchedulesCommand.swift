import ArgumentParser
import BreakwaterAdmin

/// `worker schedules`: what enqueues jobs by the clock.
struct SchedulesCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "schedules",
            abstract: "Show the schedules, which enqueue jobs by the clock, and set, pause, run or remove one.",
            discussion: """
                Examples:

                  worker schedules
                  worker schedules show nightly-report
                  worker schedules set nightly-report --cron "0 3 * * *" --time-zone Europe/Berlin --kind report.build
                  worker schedules pause nightly-report --reason "the source is being moved"
                  worker schedules run nightly-report

                One worker, the one that leads, runs the schedules of the whole fleet. A schedule that a worker's \
                configuration names is set again when that worker starts.
                """,
            subcommands: [
                List.self, Show.self, Set.self, Pause.self, Resume.self, Run.self, Remove.self,
            ],
            defaultSubcommand: List.self
        )
    }
}

/// The argument that names one schedule.
struct ScheduleSelection: ParsableArguments {
    @Argument(help: "The schedule's name.")
    var name: String

    /// Finds the schedule.
    ///
    /// - Throws: ``CommandFailure`` when there is no such schedule.
    func find(_ admin: AdminDatabase) async throws -> ScheduleStatus {
        guard let schedule = try await admin.schedules(name).first else { throw CommandFailure.noSchedule(name) }
        return schedule
    }
}

extension SchedulesCommand {
    /// `worker schedules list`.
    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list",
            abstract: "List all schedules with their next five times.",
            discussion: """
                Example:

                  worker schedules list --json

                NEXT: in UTC. SKIPPED: slots without a job because an earlier job had not ended. MISSED: slots that \
                nobody was there for.
                """
        )

        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let schedules = try await AdminDatabase.with(database.database) { try await $0.schedules() }
            if output.json {
                Terminal.write(.array(schedules.map(\.json)))
            } else if schedules.isEmpty {
                Terminal.write(
                    "There are no schedules. Name some under schedules: in a worker's configuration, or run: "
                        + "worker schedules set NAME --cron \"0 3 * * *\" --kind KIND"
                )
            } else {
                Terminal.write(ScheduleStatus.table(schedules))
            }
        }
    }

    /// `worker schedules show`.
    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show",
            abstract: "Show one schedule: its settings, its next five times, and what became of the last ones.",
            discussion: "Example:\n\n  worker schedules show nightly-report --limit 50"
        )

        @OptionGroup var selection: ScheduleSelection

        @Option(help: "How many of the latest slots are shown, newest first; about a hundred are kept.")
        var limit = 10

        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func validate() throws {
            guard limit >= 0 else { throw ValidationError("--limit \(limit) is not allowed; give at least 0.") }
        }

        func run() async throws {
            let (schedule, slots) = try await AdminDatabase.with(database.database) { admin in
                let schedule = try await selection.find(admin)
                return (schedule, try await admin.slots(ofSchedule: schedule.name, limit: limit))
            }
            if output.json {
                Terminal.write(.object(schedule.json.members + [.init("slots", .array(slots.map(\.json)))]))
                return
            }
            Terminal.write(details: schedule.details)
            if !slots.isEmpty {
                Terminal.write("\nSLOTS")
                Terminal.write(ScheduleSlot.table(slots))
            }
        }
    }
}

extension CommandFailure {
    /// The failure when no schedule has this name.
    static func noSchedule(_ name: String) -> CommandFailure {
        CommandFailure(.refused, "there is no schedule '\(name)'.\nRun: worker schedules list")
    }
}
