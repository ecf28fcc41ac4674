import BreakwaterAdmin
import ArgumentParser

/// `worker cancel`: dead-letters jobs that wait.
struct CancelCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "cancel",
            abstract: "Move jobs that wait to the dead letters, from where they can be put back.",
            discussion: """
                Example:

                  worker cancel 4711 4712

                A job that runs right now is left alone.
                """
        )
    }

    @OptionGroup var selection: JobSelection

    func run() async throws {
        try await selection.apply(done: "cancelled") { admin, id in
            try await admin.cancel(id: id, reason: selection.remark.reason, actor: selection.remark.who)
        } refusal: { story in
            switch story {
            case .waitsOrRuns(let job) where job.state == "running":
                "it is \(job.why), and what runs is not cancelled"
            case .waitsOrRuns(let job): "it was claimed a moment ago, and stands at: \(job.why)"
            case .died(let letter): "it is a dead letter already: \(letter.reason)"
            case .succeeded: "it has succeeded already"
            case .finished(let job): "it has ended already: \(job.outcome.replacing("_", with: "-"))"
            }
        }
    }
}
