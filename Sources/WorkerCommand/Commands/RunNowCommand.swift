import BreakwaterAdmin
import ArgumentParser

/// `worker run-now`: makes jobs ready that wait for their time.
struct RunNowCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "run-now",
            abstract: "Make jobs ready now that wait for a later time, or for their next try.",
            discussion: """
                Example:

                  worker run-now 4711
                """
        )
    }

    @OptionGroup var selection: JobSelection

    func run() async throws {
        try await selection.apply(done: "made ready") { admin, id in
            try await admin.runNow(id: id, why: selection.remark.why, actor: selection.remark.who)
        } refusal: { story in
            switch story {
            case .waitsOrRuns(let job): "it does not wait for its time: it is \(job.state), \(job.why)"
            case .died(let letter):
                "it is a dead letter (\(letter.reason)); put it back with: worker dead-letters redrive \(letter.id)"
            case .succeeded: "it has succeeded already"
            }
        }
    }
}
