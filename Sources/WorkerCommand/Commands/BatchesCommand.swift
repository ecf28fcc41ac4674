import ArgumentParser
import BreakwaterAdmin

/// `worker batches`: groups of jobs with a callback.
struct BatchesCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "batches",
            abstract: "Show the batches, which run a callback when all of their jobs have ended; create or close one.",
            discussion: """
                Examples:

                  worker batches
                  id=$(worker batches create report.send '{"month": "2030-01"}' --open)
                  worker enqueue page.render '{"page": 1}' --batch "$id"
                  worker batches close "$id"

                In SQL, a batch and its jobs are best created in one transaction, with breakwater.batch and \
                breakwater.enqueue; then it needs no --open. What one waits for: worker job ID.
                """,
            subcommands: [List.self, Create.self, Close.self],
            defaultSubcommand: List.self
        )
    }
}

extension BatchesCommand {
    /// `worker batches list`.
    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list",
            abstract: "List the batches that wait, and those that ended within a day, the newest first.",
            discussion: "Example:\n\n  worker batches list --json\n\nID: of the callback, which is the batch's too."
        )

        @OptionGroup var most: MostShown
        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let batches = try await AdminDatabase.with(database.database) { try await $0.batches(limit: most.limit) }
            if output.json {
                Terminal.write(.array(batches.map(\.json)))
            } else if batches.isEmpty {
                Terminal.write("There are no batches. Create one with: worker batches create KIND --open")
            } else {
                Terminal.write(BatchStatus.table(batches))
            }
        }
    }

    /// `worker batches create`.
    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "create",
            abstract: "Enqueue the callback of a new batch, and print its id.",
            discussion: """
                Example:

                  worker batches create report.send '{"month": "2030-01"}' --open

                Without --open, a batch without jobs has ended at once.
                """
        )

        @Argument(help: "The kind of its callback.")
        var kind: String

        @Argument(help: "The callback's payload, a JSON object; - reads it from standard input. {} unless said.")
        var payload: String?

        @Flag(help: "Let it go on until worker batches close.")
        var open = false

        @Flag(help: "Give the callback the results of its jobs, if their kinds keep results.")
        var withResults = false

        @Option(help: "The queue of the callback.")
        var queue = "default"

        @Option(
            help: ArgumentHelp(
                "When a job of it dies: run (count it), hold (wait for its redrive) or cancel. run unless said.",
                valueName: "what"
            )
        )
        var onDead: OnDead = .run

        @Option(help: ArgumentHelp("Make it part of this other batch.", valueName: "id"))
        var batch: Int64?

        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            var callback = NewJob(kind: kind, payload: try EnqueueCommand.readPayload(payload))
            callback.queue = queue
            callback.onDead = onDead.rawValue
            callback.batch = batch
            let complete = callback
            let id = try await AdminDatabase.with(database.database) {
                try await $0.createBatch(complete, isOpen: open, withResults: withResults)
            }
            if output.json {
                Terminal.write(.object(["id": .integer(id)]))
            } else {
                Terminal.write("\(id)")
            }
        }
    }

    /// `worker batches close`.
    struct Close: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "close",
            abstract: "Let an open batch end when its jobs have ended.",
            discussion: "Example:\n\n  worker batches close 4711"
        )

        @Argument(help: "The id of its callback.")
        var id: Int64

        @OptionGroup var database: DatabaseOptions

        func run() async throws {
            let wasOpen = try await AdminDatabase.with(database.database) { try await $0.closeBatch(id: id) }
            guard wasOpen else {
                throw CommandFailure(.refused, "there is no open batch \(id).\nRun: worker batches")
            }
            Terminal.write("Batch \(id) is closed: it ends when its jobs have ended.")
        }
    }
}
