import BreakwaterAdmin
import ArgumentParser

/// `worker job`: shows the state and the history of one job.
struct JobCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "job",
            abstract: "Show one job: where it stands, why it is not running, and what went wrong so far.",
            discussion: """
                Examples:

                  worker job 4711
                  worker job 4711 --json | jq -r .why

                Finds jobs that wait or run, dead letters, and jobs that succeeded as long as their kind's history or their \
                results are kept. Jobs that it waits for, and those that wait for it, are drawn as a tree.
                """
        )
    }

    @Argument(help: "Its id.")
    var id: Int64

    @OptionGroup var database: DatabaseOptions
    @OptionGroup var output: OutputOptions

    func run() async throws {
        let (story, place, progress, relations, runs) = try await AdminDatabase.with(database.database) { admin in
            guard let story = try await admin.story(ofJob: id) else { throw CommandFailure.noJob(id) }
            return (
                story, try await admin.place(ofJob: id), try await admin.progress(ofJob: id),
                try await admin.relations(ofJob: id),
                output.json ? [] : try await admin.failedRuns(story.errors)
            )
        }
        if output.json {
            let tree = JSONValue.array(relations.map(\.json))
            Terminal.write(
                .object(
                    story.json.members + (place?.json.members ?? []) + (progress?.json.members ?? [])
                        + [.init("relations", tree)]
                )
            )
            return
        }
        Terminal.write(details: story.details + (place?.details ?? []) + (progress?.details ?? []))
        for line in JobRelation.draw(relations) { Terminal.write(line) }
        Terminal.write(runs)
        if case .died = story { Terminal.write("\nPut it back with: worker dead-letters redrive \(id)") }
    }
}

extension CommandFailure {
    static func noJob(_ id: Int64) -> CommandFailure {
        CommandFailure(
            .refused,
            "nothing is known of a job \(id): it was never there, was deleted, or succeeded and neither its history nor its "
                + "result is kept."
        )
    }
}
