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
                """
        )
    }

    @OptionGroup var database: DatabaseOptions
    @OptionGroup var output: OutputOptions

    func run() async throws {
        let applied = try await AdminDatabase.with(database.database, logLevel: .info) {
            try await Schema.migrate(on: $0.connection)
        }
        if output.json {
            Terminal.write(
                .object([
                    "version": .integer(Int64(Schema.wanted)), "applied": .array(applied.map { .string($0) }),
                ])
            )
        } else if applied.isEmpty {
            Terminal.write("The schema is up to date: version \(Schema.wanted).")
        } else {
            Terminal.write("Applied \(applied.joined(separator: ", ")); the schema has version \(Schema.wanted).")
        }
    }
}
