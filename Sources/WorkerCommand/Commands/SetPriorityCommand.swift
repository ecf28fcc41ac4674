import ArgumentParser
import BreakwaterAdmin

/// `worker set-priority`: moves waiting jobs to the lane of another priority.
struct SetPriorityCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "set-priority",
            abstract: "Give jobs that wait another priority; they go to the end of those that have it.",
            discussion: """
                Example:

                  worker set-priority 4711 4712 --to 0

                A job that runs right now is left alone.
                """
        )
    }

    @Option(help: "The priority: 0 runs first, 9 last.")
    var to: Int

    @OptionGroup var selection: JobSelection

    func validate() throws {
        guard (0...9).contains(to) else {
            throw ValidationError("The priority \(to) is not allowed; give 0 (first) to 9 (last).")
        }
    }

    func run() async throws {
        try await selection.apply(done: "of priority \(to)") { admin, id in
            try await admin.setPriority(id: id, to: to, reason: selection.remark.reason, actor: selection.remark.who)
        } refusal: { story in
            switch story {
            case .waitsOrRuns(let job) where job.state == "running": "it is \(job.why)"
            case .waitsOrRuns(let job): "it was claimed a moment ago, and stands at: \(job.why)"
            case .died(let letter):
                "it is a dead letter (\(letter.reason)); put it back with: worker dead-letters redrive \(letter.id)"
            case .succeeded: "it has succeeded already"
            case .finished(let job): "it has ended already: \(job.outcome.replacing("_", with: "-"))"
            }
        }
    }
}
