import ArgumentParser
import BreakwaterAdmin

/// `worker rename-kind`: moves the waiting jobs of one kind to another kind.
struct RenameKindCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "rename-kind",
            abstract: "Give the jobs and dead letters of a kind another kind, after its handler was renamed.",
            discussion: """
                Example:

                  worker rename-kind email.send mail.send --reason "the handler has a new name"

                Jobs that wait, are scheduled or retry keep their times and attempts; parked ones are ready again. Jobs \
                that run end under the old name. They are counted, with those whose unique key a job of the new kind has; \
                then the command exits with 1, to be run again. Rename the kind first where jobs are enqueued, or new \
                ones go on to come under the old name. A pause of the old kind does not hold for the new one.
                """
        )
    }

    /// How many jobs are renamed in one transaction.
    private static let portion = 1000

    @Argument(help: "The kind that the jobs have.")
    var old: String

    @Argument(help: "The kind that they get.")
    var new: String

    @OptionGroup var remark: Remark
    @OptionGroup var database: DatabaseOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        if old.isEmpty || new.isEmpty { throw ValidationError("A kind is empty; name the old one, then the new one.") }
        if old == new { throw ValidationError("Both kinds are \(old); name the old one, then the new one.") }
    }

    func run() async throws {
        let (renamed, isTaken) = try await AdminDatabase.with(database.database) { admin in
            var total = KindRenaming()
            repeat {
                try await admin.renameKind(
                    from: old,
                    to: new,
                    limit: Self.portion,
                    reason: remark.reason,
                    actor: remark.who,
                    total: &total
                )
            } while !total.isComplete
            return (total, try await admin.isTaken(.kind(new)))
        }
        report(renamed)
        if !isTaken { Terminal.complain("No worker takes the kind \(new) now; is the name right?") }
        let left = leftovers(renamed)
        if !left.isEmpty { throw CommandFailure(.refused, left.joined(separator: "\n")) }
    }

    private func report(_ renamed: KindRenaming) {
        if output.json {
            Terminal.write(
                .object([
                    "from": .string(old), "to": .string(new), "jobs": .integer(Int64(renamed.jobs)),
                    "dead_letters": .integer(Int64(renamed.deadLetters)), "busy": .integer(Int64(renamed.busy)),
                    "taken": .integer(Int64(renamed.taken)),
                ])
            )
        } else {
            let text =
                "\(renamed.jobs) jobs and \(renamed.deadLetters) dead letters of \(old) are of the kind \(new) now."
            Terminal.write(text.escapingControlCharacters)
        }
    }

    private func leftovers(_ renamed: KindRenaming) -> [String] {
        var lines: [String] = []
        if renamed.busy > 0 {
            lines.append("\(renamed.busy) jobs of \(old) run now and are left; run this again when they have ended")
        }
        if renamed.taken > 0 {
            lines.append("\(renamed.taken) jobs of \(old) are left: jobs of \(new) have their unique keys")
        }
        return lines.map(\.escapingControlCharacters)
    }
}
