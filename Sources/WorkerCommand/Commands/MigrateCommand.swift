import BreakwaterAdmin
import ArgumentParser
import Breakwater
import Logging

/// `worker migrate`: brings the schema of a database up to date.
struct MigrateCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "migrate",
            abstract: "Create Breakwater's schema in a database, or bring it up to date.",
            discussion: """
                Example:

                  worker migrate --database postgresql:///app

                It may run any number of times, and on several machines at once: each migration is one transaction \
                and happens once. The same SQL is in the folder sql/ of the source.

                Workers may go on meanwhile. A migration waits for a lock at most for --lock-timeout, so that nobody \
                queues up behind it for longer; then it changes nothing and exits with 69, to be run again.

                It also looks for sequences that are behind their rows, as after a restore or an upgrade by logical \
                replication, and lets them go on after the rows.
                """
        )
    }

    @Option(
        help: ArgumentHelp("How long to wait for each lock on a table in use. Defaults to 10s.", valueName: "duration")
    )
    var lockTimeout: DurationArgument?

    @OptionGroup var database: DatabaseOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        if let lockTimeout, !(.milliseconds(1) ... .seconds(86_400)).contains(lockTimeout.duration) {
            throw ValidationError("--lock-timeout \(lockTimeout.duration.text) is not allowed; give 1ms to 1d.")
        }
    }

    func run() async throws {
        let (applied, repairs) = try await AdminDatabase.with(database.database, logLevel: .info) { admin in
            let timeout = lockTimeout?.duration ?? .seconds(10)
            let applied = try await Schema.migrate(on: admin.connection, lockTimeout: timeout)
            return (applied, try await Schema.repairSequences(on: admin.connection))
        }
        if output.json {
            Terminal.write(
                .object([
                    "version": .integer(Int64(Schema.wanted)), "applied": .array(applied.map { .string($0) }),
                    "repaired_sequences": .array(repairs.map(\.json)),
                ])
            )
        } else if applied.isEmpty {
            Terminal.write("The schema is up to date: version \(Schema.wanted).")
        } else {
            Terminal.write("Applied \(applied.joined(separator: ", ")); the schema has version \(Schema.wanted).")
        }
        if !output.json { for repair in repairs { Terminal.write(repair.sentence) } }
    }
}

extension Schema.SequenceRepair {
    fileprivate var sentence: String {
        "The sequence \(sequence) stood at \(stoodAt), behind its rows: it goes on after \(goesOnAfter)."
    }

    fileprivate var json: JSONValue {
        .object([
            "sequence": .string(sequence), "stood_at": .integer(stoodAt), "goes_on_after": .integer(goesOnAfter),
        ])
    }
}
