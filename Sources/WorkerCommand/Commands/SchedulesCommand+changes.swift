import ArgumentParser
import Breakwater
import BreakwaterAdmin

extension SchedulesCommand {
    /// `worker schedules set`.
    struct Set: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "set",
            abstract: "Add a schedule, or replace the settings of one; what is left out gets its default.",
            discussion: """
                Examples:

                  worker schedules set nightly-report --cron "0 3 * * *" --time-zone Europe/Berlin --kind report.build
                  worker schedules set heartbeat --every 90s --kind ping --missed skip
                  worker schedules set month-end --cron "0 18 LW * *" --kind books.close --payload '{"dry": true}'

                The same in SQL:

                  SELECT breakwater.set_schedule('nightly-report', cron => '0 3 * * *', kind => 'report.build')
                """
        )

        @OptionGroup var selection: ScheduleSelection

        @Option(help: "When, as five fields: minute, hour, day of the month, month, day of the week. Else --every.")
        var cron: String?

        @Option(
            help: ArgumentHelp("The interval between its jobs, in whole seconds. Else --cron.", valueName: "duration")
        )
        var every: DurationArgument?

        @Option(
            help: ArgumentHelp("The time zone of --cron, such as Europe/Berlin. UTC unless said.", valueName: "name")
        )
        var timeZone: String?

        @Option(help: "The kind of its jobs.")
        var kind: String

        @Option(help: ArgumentHelp("The payload of its jobs, a JSON object. {} unless said.", valueName: "json"))
        var payload: String?

        @Option(help: "The queue of its jobs. default unless said.")
        var queue: String?

        @Option(help: "The priority of its jobs: 0 runs first, 9 last. 5 unless said.")
        var priority: Int?

        @Option(help: "At most one live job of the kind has this key.")
        var uniqueKey: String?

        @Option(
            help: ArgumentHelp(
                "Missed times get one job together, all of them one each, or none: one, all, skip.",
                valueName: "rule"
            )
        )
        var missed: MissedArgument?

        @Option(
            help: ArgumentHelp("How late a time may be before it is missed. 1m unless said.", valueName: "duration")
        )
        var missedAfter: DurationArgument?

        @Option(help: "How many missed times get a job each, at most. 100 unless said.")
        var missedLimit: Int?

        @Option(
            help: ArgumentHelp(
                "While its last job has not ended, a time gets a job all the same, or none: allow, skip.",
                valueName: "rule"
            )
        )
        var overlap: OverlapArgument?

        @OptionGroup var remark: Remark
        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func validate() throws {
            switch (cron, every) {
            case (nil, nil): throw ValidationError("Say when: --cron \"0 3 * * *\" or --every 90s.")
            case (.some, .some): throw ValidationError("--cron and --every are both given; a schedule has one of them.")
            default: break
            }
            if every != nil, timeZone != nil {
                throw ValidationError("An interval follows UTC; leave --time-zone out, or give --cron.")
            }
            if let payload, !JobResult.isStorable(payload) {
                throw ValidationError(
                    "The payload is not JSON that Postgres can store; give an object, such as '{\"id\": 7}'."
                )
            }
        }

        func run() async throws {
            var new = NewSchedule(name: selection.name, kind: kind)
            new.cron = cron
            new.every = every?.duration
            new.timeZone = timeZone
            new.queue = queue
            new.payload = payload
            new.priority = priority
            new.uniqueKey = uniqueKey
            new.missed = missed?.rawValue
            new.missedAfter = missedAfter?.duration
            new.missedLimit = missedLimit
            new.overlap = overlap?.rawValue
            let settings = new
            let schedule = try await AdminDatabase.with(database.database) { admin in
                _ = try await admin.set(settings, reason: remark.reason, actor: remark.who)
                return try await selection.find(admin)
            }
            if output.json {
                Terminal.write(schedule.json)
            } else {
                Terminal.write("The schedule '\(schedule.name)' \(schedule.why).".escapingControlCharacters)
            }
            schedule.warnOfConfiguration("set it back to the configuration's settings")
        }
    }

    /// `worker schedules pause`.
    struct Pause: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "pause",
            abstract:
                "Stop a schedule until it is resumed. Times that come meanwhile get no job, neither then nor later.",
            discussion: "Example:\n\n  worker schedules pause nightly-report --reason \"the source is being moved\""
        )

        @OptionGroup var selection: ScheduleSelection
        @OptionGroup var explanation: Explanation
        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let schedule = try await AdminDatabase.with(database.database) { admin in
                _ = try await selection.find(admin)
                try await admin.pause(schedule: selection.name, reason: explanation.reason, actor: explanation.who)
                return try await selection.find(admin)
            }
            if output.json {
                Terminal.write(schedule.json)
            } else {
                Terminal.write("The schedule '\(schedule.name)' is paused.".escapingControlCharacters)
            }
        }
    }

    /// `worker schedules resume`.
    struct Resume: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "resume",
            abstract: "Let a paused schedule go on with its next time.",
            discussion: "Example:\n\n  worker schedules resume nightly-report"
        )

        @OptionGroup var selection: ScheduleSelection
        @OptionGroup var remark: Remark
        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let (schedule, next) = try await AdminDatabase.with(database.database) { admin in
                _ = try await selection.find(admin)
                let next = try await admin.resume(
                    schedule: selection.name,
                    reason: remark.reason,
                    actor: remark.who
                )
                return (try await selection.find(admin), next)
            }
            guard let next else {
                throw CommandFailure(
                    .refused,
                    "the schedule '\(selection.name)' is not paused.\nRun: worker schedules list"
                )
            }
            if output.json {
                Terminal.write(schedule.json)
            } else {
                Terminal.write(
                    "The schedule '\(schedule.name)' goes on, next at \(next.shortText).".escapingControlCharacters
                )
            }
        }
    }

    /// `worker schedules run`.
    struct Run: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "run",
            abstract: "Enqueue a job of a schedule now, between its times, even if it is paused.",
            discussion: """
                Example:

                  worker schedules run nightly-report

                If the schedule skips overlaps and its last job has not ended, nothing is added.
                """
        )

        @OptionGroup var selection: ScheduleSelection
        @OptionGroup var remark: Remark
        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let (job, isNew) = try await AdminDatabase.with(database.database) { admin in
                _ = try await selection.find(admin)
                return try await admin.run(schedule: selection.name, reason: remark.reason, actor: remark.who)
            }
            guard isNew else {
                throw CommandFailure(
                    .refused,
                    "nothing was added: job \(job) of the schedule '\(selection.name)' has not ended.\n"
                        + "Run: worker job \(job)"
                )
            }
            if output.json {
                Terminal.write(.object(["id": .integer(job)]))
            } else {
                Terminal.write("\(job)")
            }
        }
    }

    /// `worker schedules remove`.
    struct Remove: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "remove",
            abstract: "Remove a schedule. Jobs that it has enqueued stay.",
            discussion: "Example:\n\n  worker schedules remove nightly-report --reason \"nobody reads it\""
        )

        @OptionGroup var selection: ScheduleSelection
        @OptionGroup var remark: Remark
        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let schedule = try await AdminDatabase.with(database.database) { admin in
                let schedule = try await selection.find(admin)
                guard try await admin.remove(schedule: schedule.name, reason: remark.reason, actor: remark.who) else {
                    throw CommandFailure.noSchedule(selection.name)
                }
                return schedule
            }
            if output.json {
                Terminal.write(.object(["removed": .string(schedule.name)]))
            } else {
                Terminal.write("The schedule '\(schedule.name)' is removed.".escapingControlCharacters)
            }
            schedule.warnOfConfiguration("set it again")
        }
    }
}

/// What becomes of missed times, on the command line.
enum MissedArgument: String, ExpressibleByArgument, CaseIterable {
    case one, all, skip
}

/// What becomes of a time while the last job has not ended, on the command line.
enum OverlapArgument: String, ExpressibleByArgument, CaseIterable {
    case allow, skip
}

extension ScheduleStatus {
    /// Says that a worker's configuration names the schedule, and so undoes a change when a worker starts.
    fileprivate func warnOfConfiguration(_ what: String) {
        guard let configuredBy else { return }
        Terminal.complain(
            "The configuration of \(configuredBy) names this schedule: the next worker that starts with it will \(what)."
        )
    }
}
