import ArgumentParser

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

    func run() async throws {
    }
}
