import ArgumentParser
import BreakwaterAdmin

/// `worker run-now`: makes scheduled jobs ready, or runs one job in spite of an open circuit or a pause.
struct RunNowCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "run-now",
            abstract: "Make jobs ready now that wait for a later time, or for their next try.",
            discussion: """
                With --through, one job runs at once although its circuit is open or its kind or queue is paused: a test
                shot. The command waits for its end and says how it went; the circuit counts it as a probe. It exits with 1
                if the job did not succeed.

                Without it, a job whose circuit is open, that is paused, or that a limit holds back still waits, and the
                command says for what.

                Examples:

                  worker run-now 4711
                  worker run-now 4711 --through
                """
        )
    }

    @Flag(help: "Send one job through an open circuit or a pause, and report how it ends.")
    var through = false

    @Option(help: "With --through: how long to wait for its end. Defaults to 60s.")
    var wait: DurationArgument?

    @OptionGroup var selection: JobSelection

    func validate() throws {
        if through, selection.ids.count != 1 {
            throw ValidationError("--through takes one job: it is a test, and \(selection.ids.count) were named.")
        }
    }

    func run() async throws {
        if through { return try await sendThrough() }
        try await selection.apply(done: "made ready") { admin, id in
            let was = try await admin.runNow(id: id, reason: selection.remark.reason, actor: selection.remark.who)
            if was, let why = try await admin.whyWaits(id: id) {
                Terminal.complain("Job \(id) is ready, but still waits: \(why)".escapingControlCharacters)
            }
            return was
        } refusal: { story in
            switch story {
            case .waitsOrRuns(let job): "it does not wait for its time: it is \(job.state), \(job.why)"
            default: refusal(of: story)
            }
        }
    }

    private func refusal(of story: JobStory) -> String {
        switch story {
        case .waitsOrRuns(let job): "it is \(job.state), \(job.why)"
        case .died(let letter):
            "it is a dead letter (\(letter.reason)); put it back with: worker dead-letters redrive \(letter.id)"
        case .succeeded: "it has succeeded already"
        case .finished(let job): "it has ended already: \(job.outcome.replacing("_", with: "-"))"
        }
    }

    private func sendThrough() async throws {
        let id = selection.ids[0]
        let result = try await AdminDatabase.with(selection.database.database) { admin in
            let last = try await admin.lastProbeResult()
            guard try await admin.runThrough(id: id, reason: selection.remark.reason, actor: selection.remark.who)
            else {
                guard let story = try await admin.story(ofJob: id) else { throw CommandFailure.noJob(id) }
                throw CommandFailure(.refused, "job \(id) is not sent through: \(refusal(of: story))")
            }
            let deadline = ContinuousClock.now + (wait?.duration ?? .seconds(60))
            while ContinuousClock.now < deadline {
                if let result = try await admin.probeResult(ofJob: id, after: last) { return result }
                try await Task.sleep(for: .milliseconds(50))
            }
            throw CommandFailure(
                .refused,
                "job \(id) was sent through, and has not ended yet; see: worker job \(id)"
            )
        }
        if selection.output.json {
            Terminal.write(
                .object([
                    "job": .integer(id), "outcome": .string(result.outcome), "name": .string(orNull: result.name),
                    "message": .string(orNull: result.message),
                ])
            )
        } else {
            let error = [result.name, result.message].compactMap { $0 }.joined(separator: ": ")
            Terminal.write("Job \(id) was sent through: \(result.outcome)" + (error.isEmpty ? "." : ", \(error)"))
        }
        if result.outcome != "succeeded" { throw ExitCode(1) }
    }
}
