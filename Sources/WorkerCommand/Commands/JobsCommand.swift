import ArgumentParser
import Breakwater
import BreakwaterAdmin

/// `worker jobs`: lists and searches jobs, also those that have ended; changes waiting jobs, one by one and in bulk.
struct JobsCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "jobs",
            abstract: "List and search jobs, finished ones too; change, cancel or hurry jobs that wait.",
            discussion: """
                Examples:

                  worker jobs
                  worker jobs --kind webhook.deliver --payload '$.customer=17'
                  worker jobs --kind webhook.deliver --key 17 --since 2d
                  worker jobs --state dead-letter --since 1h --json
                  worker jobs edit 4711 --payload '{"to": "a@b.c"}'
                  worker jobs cancel --kind email.send --payload '$.campaign=9' --dry-run
                """,
            subcommands: [List.self, Edit.self, Cancel.self, RunNow.self],
            defaultSubcommand: List.self
        )
    }
}

extension JobsCommand {
    /// `worker jobs list`.
    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list",
            abstract:
                "List jobs: those that wait or run, the newest first, then those that have ended, the last first.",
            discussion: """
                Examples:

                  worker jobs list --state running
                  worker jobs list --kind webhook.deliver --payload '$.customer=17' --json

                Did customer 17's webhook go out? Jobs that succeeded are found only if their kind has a history: \
                `history: { keep: 7d }` in the configuration. They are found by their payload only if the history keeps \
                payloads, and otherwise by the key of the history: --key 17.
                """
        )

        @OptionGroup var search: JobSearch

        @Option(help: "How long each half of the search may take. Defaults to 5s.")
        var patience: DurationArgument?

        @OptionGroup var most: MostShown
        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func validate() throws {
            guard (.milliseconds(1)...Duration.seconds(3600)).contains(time) else {
                throw ValidationError("--patience \(time.text) is not allowed; give 1ms to 1h.")
            }
        }

        private var time: Duration { patience?.duration ?? .seconds(5) }

        func run() async throws {
            let (live, ended) = try await AdminDatabase.with(database.database) { admin in
                let filter = search.filter(now: try await admin.now())
                var live: FoundJobs?
                if filter.includesLive {
                    live = try await admin.findJobs(filter, page: most.limit, cap: most.limit + 1, patience: time)
                }
                let rest = most.limit - (live?.jobs.count ?? 0)
                var ended: FoundEndedJobs?
                if filter.includesEnded, rest > 0 {
                    ended = try await admin.findEndedJobs(filter, page: rest, patience: time)
                }
                return (live, ended)
            }
            let jobs = (live?.jobs ?? []).map { ListedJob($0) } + (ended?.jobs ?? []).map { ListedJob($0) }
            if output.json {
                Terminal.write(.array(jobs.map { $0.json }))
            } else if jobs.isEmpty {
                Terminal.write("There are no such jobs.")
            } else {
                Terminal.write(ListedJob.table(jobs))
            }
            complain(live, ended, shown: jobs.count)
        }

        /// Says what the list leaves out.
        private func complain(_ live: FoundJobs?, _ ended: FoundEndedJobs?, shown: Int) {
            if let live, live.isUnfinished, let next = live.next {
                Terminal.complain(
                    "The search ended after \(time.text): jobs that wait or run were searched down to the id "
                        + "\(next). Name a --kind or --key, or give it more time with --patience."
                )
            }
            if let end = ended?.searchedTo {
                Terminal.complain(
                    "The search ended after \(time.text): finished jobs were searched back to "
                        + "\(end.shortText). Name a --kind or --key, or go on with --until \(end.timeText)"
                )
            }
            if shown >= most.limit {
                Terminal.complain("Only \(most.limit) are shown; --limit shows more.")
            }
        }
    }
}
