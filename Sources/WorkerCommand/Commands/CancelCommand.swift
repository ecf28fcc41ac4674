import BreakwaterAdmin
import ArgumentParser

/// `worker cancel`: dead-letters jobs, and ends the runs of those that run.
struct CancelCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "cancel",
            abstract: "Cancel jobs: they go to the dead letters, from where they can be put back.",
            discussion: """
                Example:

                  worker cancel 4711 4712

                The worker of a job that runs right now is asked to cancel the run, within about a second. The job is a \
                dead letter when the run has ended, unless it succeeds first.
                """
        )
    }

    @OptionGroup var selection: JobSelection

    func run() async throws {
        try await selection.apply(done: "cancelled") { admin, id in
            try await admin.cancel(id: id, reason: selection.remark.reason, actor: selection.remark.who)
        } sentence: { admin, id in
            guard case .waitsOrRuns? = try await admin.story(ofJob: id) else { return nil }
            return "Job \(id) runs; its worker was asked to cancel it."
        } refusal: { story in
            switch story {
            case .waitsOrRuns(let job): "another session has locked it, and it stands at: \(job.why)"
            case .died(let letter): "it is a dead letter already: \(letter.reason)"
            case .succeeded: "it has succeeded already"
            case .finished(let job): "it has ended already: \(job.outcome.replacing("_", with: "-"))"
            }
        }
    }
}
