import BreakwaterAdmin
import ArgumentParser

/// `worker dead-letters`: lists, shows, redrives and purges jobs that ended without success.
struct DeadLettersCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "dead-letters",
            abstract: "Show jobs that ended without success, put them back, or delete them.",
            discussion: """
                Examples:

                  worker dead-letters --kind email.send
                  worker dead-letters show 4711
                  worker dead-letters redrive 4711
                  worker dead-letters redrive --kind email.send --died-of exhausted
                  worker dead-letters purge --kind email.send --older-than 30d
                """,
            subcommands: [List.self, Show.self, Redrive.self, Purge.self],
            defaultSubcommand: List.self
        )
    }
}

/// The options that select dead letters.
struct DeadLetterOptions: ParsableArguments {
    @Option(help: "Only those of this kind.")
    var kind: String?

    @Option(help: "Only those that died for this: exhausted, discarded, expired, poison, circuit_open or cancelled.")
    var diedOf: String?

    @Option(help: "Only those that died within this incident, behind its circuit. See worker incidents.")
    var incident: Int64?

    var filter: DeadLetterFilter { DeadLetterFilter(kind: kind, reason: diedOf, incident: incident) }

    /// - Throws: ``CommandFailure`` when the incident does not exist.
    func check(_ admin: AdminDatabase) async throws {
        guard let incident, try await admin.incident(id: incident) == nil else { return }
        throw CommandFailure.noIncident(incident)
    }
}

extension DeadLettersCommand {
    /// `worker dead-letters list`.
    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list",
            abstract: "List dead letters, the newest first.",
            discussion: """
                Example:

                  worker dead-letters list --kind email.send --limit 100

                With --json, a payload of more than 8 kB is null here; `show` has it.
                """
        )

        @OptionGroup var which: DeadLetterOptions

        @OptionGroup var most: MostShown
        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let letters = try await AdminDatabase.with(database.database) { admin in
                try await which.check(admin)
                return try await admin.deadLetters(which.filter, limit: most.limit)
            }
            if output.json {
                Terminal.write(.array(letters.map(\.json)))
            } else if letters.isEmpty {
                Terminal.write("There are no dead letters\(which.filter == DeadLetterFilter() ? "" : " of these").")
            } else {
                Terminal.write(DeadLetter.table(letters))
                if letters.count == most.limit {
                    Terminal.complain("Only the newest \(most.limit) are shown; --limit shows more.")
                }
            }
        }
    }

    /// `worker dead-letters show`.
    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show",
            abstract: "Show one dead letter with its payload and every attempt's error.",
            discussion: "Example:\n\n  worker dead-letters show 4711"
        )

        @Argument(help: "Its id.")
        var id: Int64

        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func run() async throws {
            let (letter, runs) = try await AdminDatabase.with(database.database) { admin in
                guard let letter = try await admin.deadLetter(id: id) else { throw CommandFailure.noDeadLetters([id]) }
                return (letter, output.json ? [] : try await admin.failedRuns(letter.errors))
            }
            if output.json {
                Terminal.write(letter.json)
            } else {
                Terminal.write(details: letter.details)
                Terminal.write(runs)
            }
        }
    }

    /// `worker dead-letters redrive`.
    struct Redrive: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "redrive",
            abstract: "Put dead letters back as jobs, with their counters reset.",
            discussion: """
                Examples:

                  worker dead-letters redrive 4711 4712
                  worker dead-letters redrive 4711 --payload '{"to": "a@b.c"}'
                  worker dead-letters redrive --kind email.send --dry-run
                  worker dead-letters redrive --kind email.send --limit 100
                  worker dead-letters redrive --incident 12
                  worker dead-letters redrive --all --rate 50

                Those whose unique key a newer job has taken stay dead letters. Jobs that die again meanwhile are not \
                put back again. Ctrl-C ends it without loss; the same command goes on.
                """
        )

        @Option(help: "Another payload for one dead letter, one JSON value.")
        var payload: String?

        @OptionGroup var selection: DeadLetterSelection

        func validate() throws {
            guard let payload else { return }
            if selection.ids.count != 1 {
                throw ValidationError("--payload goes with the id of one dead letter.")
            }
            try JobsCommand.checkPayload(payload)
        }

        func run() async throws {
            try await selection.apply(done: "put back", key: "redriven") { admin, id in
                try await admin.redrive(
                    id: id,
                    payload: payload,
                    reason: selection.remark.reason,
                    actor: selection.remark.who
                )
            } portion: { admin, some, limit in
                try await admin.redrive(&some, limit: limit)
            }
        }
    }

    /// `worker dead-letters purge`.
    struct Purge: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "purge",
            abstract: "Delete dead letters for good.",
            discussion: """
                Examples:

                  worker dead-letters purge 4711
                  worker dead-letters purge --kind email.send --older-than 30d
                  worker dead-letters purge --all --older-than 365d --dry-run

                Ctrl-C ends it; the same command goes on.
                """
        )

        @OptionGroup var selection: DeadLetterSelection

        @Option(help: "Only those that died longer ago than this, such as 30d.")
        var olderThan: DurationArgument?

        func validate() throws {
            if olderThan != nil, !selection.ids.isEmpty {
                throw ValidationError("--older-than goes with --kind, --died-of, --incident or --all, not with ids.")
            }
        }

        func run() async throws {
            try await selection.apply(
                done: "deleted",
                key: "purged",
                olderThan: olderThan?.duration ?? .zero
            ) { admin, id in
                try await admin.purge(id: id, reason: selection.remark.reason, actor: selection.remark.who)
            } portion: { admin, some, limit in
                try await admin.purge(&some, limit: limit)
            }
        }
    }
}

extension CommandFailure {
    static func noDeadLetters(_ ids: [Int64]) -> CommandFailure {
        let list = ids.map { "\($0)" }.joined(separator: ", ")
        return CommandFailure(
            .refused,
            "there is no dead letter with the id \(list); it may have been put back or deleted.\n"
                + "Run: worker dead-letters list"
        )
    }
}
