import ArgumentParser
import BreakwaterAdmin
import Foundation
import Libpq

extension JobsCommand {
    /// `worker jobs edit`.
    struct Edit: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "edit",
            abstract: "Change the payload, the time or the attempts of jobs that wait.",
            discussion: """
                Examples:

                  worker jobs edit 4711 --payload '{"to": "a@b.c"}' --reason "wrong address"
                  worker jobs edit 4711 4712 --run-at 2030-01-31T08:00:00Z
                  worker jobs edit 4711 --max-attempts 30

                With another payload, a job that its key's limit, order or circuit holds back is judged anew. A job that \
                runs right now is left alone.
                """
        )

        @Option(help: "The new payload, one JSON value.")
        var payload: String?

        @Option(help: "When it runs, such as 2030-01-31T08:00:00Z.")
        var runAt: TimeArgument?

        @Option(help: "How often it may run.")
        var maxAttempts: Int?

        @OptionGroup var selection: JobSelection

        func validate() throws {
            if payload == nil, runAt == nil, maxAttempts == nil {
                throw ValidationError("Say what to change: --payload, --run-at or --max-attempts.")
            }
            if let maxAttempts, !(1...1_000_000).contains(maxAttempts) {
                throw ValidationError("--max-attempts \(maxAttempts) is not allowed; give 1 to 1000000.")
            }
            if let payload { try JobsCommand.checkPayload(payload) }
        }

        func run() async throws {
            let changes = JobChanges(payload: payload, runAt: runAt?.date, maxAttempts: maxAttempts)
            try await selection.apply(done: "changed") { admin, id in
                try await admin.edit(id: id, changes, reason: selection.remark.reason, actor: selection.remark.who)
            } refusal: { story in
                switch story {
                case .waitsOrRuns(let job) where job.state == "running": "it is \(job.why)"
                case .waitsOrRuns(let job): "it was claimed a moment ago, and stands at: \(job.why)"
                case .died(let letter):
                    "it is a dead letter (\(letter.reason)); put it back with: "
                        + "worker dead-letters redrive \(letter.id) --payload …"
                case .finished(let job): "it has ended already: \(job.outcome.replacing("_", with: "-"))"
                case .succeeded: "it has succeeded already"
                }
            }
        }
    }

    /// Refuses a payload that is not JSON, before anything is changed.
    static func checkPayload(_ payload: String) throws {
        do {
            _ = try JSONSerialization.jsonObject(with: Data(payload.utf8), options: .fragmentsAllowed)
        } catch {
            throw ValidationError("--payload is not a JSON value; give one such as '{\"to\": \"a@b.c\"}'.")
        }
    }

    /// `worker jobs cancel`.
    struct Cancel: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "cancel",
            abstract: "Move the waiting jobs of a kind, a queue or a payload to the dead letters.",
            discussion: """
                Examples:

                  worker jobs cancel --kind email.send --payload '$.campaign=9' --dry-run
                  worker jobs cancel --queue bulk --reason "the import was wrong" --limit 1000

                Jobs that run right now are left and counted. Ctrl-C ends it; the same command goes on. Single jobs: \
                worker cancel ID.
                """
        )

        @OptionGroup var selection: BulkSelection

        func run() async throws { try await selection.apply(.cancel, done: "cancelled") }
    }

    /// `worker jobs run-now`.
    struct RunNow: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "run-now",
            abstract:
                "Make the jobs of a kind, a queue or a payload ready now that wait for a later time or a next try.",
            discussion: """
                Examples:

                  worker jobs run-now --kind webhook.deliver --dry-run
                  worker jobs run-now --kind webhook.deliver --payload '$.customer=17'

                A job whose circuit is open, that is paused, or that a limit holds back still waits. Ctrl-C ends it; the \
                same command goes on. Single jobs: worker run-now ID.
                """
        )

        @OptionGroup var selection: BulkSelection

        func run() async throws { try await selection.apply(.runNow, done: "made ready") }
    }
}

/// The waiting jobs that a command changes in bulk. Without a condition, none are changed.
struct BulkSelection: ParsableArguments {
    @Option(help: "The kind of the jobs.")
    var kind: String?

    @Option(help: "The queue of the jobs.")
    var queue: String?

    @Option(
        help: ArgumentHelp(
            "What their payload has: '$.customer=17', or an SQL/JSON path, '$.total > 100'.",
            valueName: "path=value"
        )
    )
    var payload: PayloadCondition?

    @Option(help: "At most this many, oldest first. Else all that existed when the command began.")
    var limit: Int?

    @Flag(help: "Only say how many there are.")
    var dryRun = false

    @OptionGroup var remark: Remark
    @OptionGroup var database: DatabaseOptions
    @OptionGroup var output: OutputOptions

    /// How many jobs are changed in one transaction.
    private static let portion = 1000

    private var choice: JobChoice { JobChoice(kind: kind, queue: queue, path: payload?.path) }

    func validate() throws {
        for (name, value) in [("--kind", kind), ("--queue", queue)] where value == "" {
            throw ValidationError("\(name) is empty.")
        }
        guard !choice.isEmpty else { throw ValidationError("Say which: --kind, --queue or --payload.") }
        if let limit, !(1...1_000_000_000).contains(limit) {
            throw ValidationError("--limit \(limit) is not allowed; give at least 1.")
        }
    }

    /// Changes the selected jobs in portions, each in its own transaction, and prints how many were changed.
    ///
    /// - Parameter done: A participle for the messages, such as `cancelled`.
    /// - Throws: ``CommandFailure`` when the command was interrupted.
    func apply(_ action: JobAction, done: String) async throws {
        Foreground.installHandlers()
        let total = try await AdminDatabase.with(database.database) { admin in
            var total = JobPortions(until: try await admin.lastJob())
            // Without a single job, nothing is there to change.
            guard total.until != nil else { return total }
            while !total.isComplete, total.done < limit ?? .max, Foreground.stopSignal == nil {
                try await changeSome(admin, action, done: done, &total)
            }
            return total
        }
        if output.json {
            Terminal.write(
                .object([
                    "changed": .integer(Int64(dryRun ? 0 : total.done)), "matched": .integer(Int64(total.done)),
                    "left": .integer(Int64(total.busy)),
                ])
            )
        } else {
            let jobs = total.done == 1 ? "1 job" : "\(total.done) jobs"
            let verb = dryRun ? "would be" : total.done == 1 ? "was" : "were"
            let left =
                total.busy == 0 ? "" : " \(total.busy) that run right now \(total.busy == 1 ? "is" : "are") left."
            Terminal.write("\(jobs) \(verb) \(done).\(left)")
        }
        if Foreground.stopSignal != nil, !total.isComplete {
            throw CommandFailure(
                .interrupted,
                "interrupted: \(total.done) are \(done). The same command goes on with the rest."
            )
        }
    }

    private func changeSome(
        _ admin: AdminDatabase,
        _ action: JobAction,
        done: String,
        _ total: inout JobPortions
    ) async throws {
        do {
            try await admin.change(
                choice,
                action,
                limit: min(Self.portion, (limit ?? .max) - total.done),
                isDryRun: dryRun,
                reason: remark.reason,
                actor: remark.who,
                total: &total
            )
        } catch let error as PostgresError {
            let failure = CommandFailure(error, at: admin.place)
            guard total.done > 0, !dryRun else { throw failure }
            throw CommandFailure(
                failure.status,
                "\(failure.message)\n\(total.done) are \(done). The same command goes on with the rest."
            )
        }
    }
}
