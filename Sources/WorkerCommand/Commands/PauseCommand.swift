import BreakwaterAdmin
import ArgumentParser

/// `worker pause`: stops the claiming of a queue or a kind.
struct PauseCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "pause",
            abstract: "Stop claiming the jobs of a queue or a kind, in the whole fleet, until it is resumed.",
            discussion: """
                Examples:

                  worker pause --queue bulk --reason "the night's backup runs"
                  worker pause --kind email.send --reason "wrong template"

                What runs goes on; what waits loses nothing. What is paused shows in: worker status
                """
        )
    }

    @OptionGroup var scope: PauseScope
    @OptionGroup var explanation: Explanation
    @OptionGroup var database: DatabaseOptions
    @OptionGroup var output: OutputOptions

    func run() async throws {
        let target = scope.target
        let isTaken = try await AdminDatabase.with(database.database) { admin in
            try await admin.pause(target, reason: explanation.reason, actor: explanation.who)
            return try await admin.isTaken(target)
        }
        if output.json {
            Terminal.write(scope.json(isPaused: true))
        } else {
            Terminal.write("The \(target.description) is paused.".escapingControlCharacters)
        }
        if !isTaken { Terminal.complain("No worker takes the \(target.description) now; is the name right?") }
    }
}

/// `worker resume`: lets a paused queue or kind be claimed again.
struct ResumeCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "resume",
            abstract: "Let a paused queue or kind go on.",
            discussion: """
                Examples:

                  worker resume --queue bulk
                  worker resume --kind email.send
                """
        )
    }

    @OptionGroup var scope: PauseScope
    @OptionGroup var remark: Remark
    @OptionGroup var database: DatabaseOptions
    @OptionGroup var output: OutputOptions

    func run() async throws {
        let target = scope.target
        let wasPaused = try await AdminDatabase.with(database.database) {
            try await $0.resume(target, reason: remark.reason, actor: remark.who)
        }
        guard wasPaused else {
            throw CommandFailure(.refused, "the \(target.description) is not paused.\nRun: worker status")
        }
        if output.json {
            Terminal.write(scope.json(isPaused: false))
        } else {
            Terminal.write("The \(target.description) goes on.".escapingControlCharacters)
        }
    }
}

/// The queue or the kind that a command pauses or resumes.
struct PauseScope: ParsableArguments {
    @Option(help: "The queue. Else --kind.")
    var queue: String?

    @Option(help: "The kind of job. Else --queue.")
    var kind: String?

    func validate() throws {
        switch (queue, kind) {
        case (nil, nil): throw ValidationError("Say which: --queue or --kind.")
        case (.some, .some): throw ValidationError("--queue and --kind are both given; give one, then the other.")
        case (""?, nil), (nil, ""?): throw ValidationError("The name is empty.")
        default: break
        }
    }

    /// The given queue or kind. Validation has made sure that there is exactly one.
    var target: PauseTarget { queue.map { .queue($0) } ?? .kind(kind ?? "") }

    func json(isPaused: Bool) -> JSONValue {
        .object(["queue": .string(orNull: queue), "kind": .string(orNull: kind), "paused": .bool(isPaused)])
    }
}
