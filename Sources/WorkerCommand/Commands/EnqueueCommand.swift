import BreakwaterAdmin
import ArgumentParser
import Foundation

/// `worker enqueue`: adds one job and prints its id.
struct EnqueueCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "enqueue",
            abstract: "Add one job and print its id.",
            discussion: """
                Examples:

                  worker enqueue email.send '{"to": "a@b.c"}'
                  worker enqueue report.build - --in 1h30m --max-attempts 3 < report.json
                  worker enqueue sync.account '{"id": 7}' --unique-key account-7

                With --unique-key, and a live job of that kind and key there already, it prints that job's id and \
                adds nothing. The same in SQL:

                  SELECT breakwater.enqueue('email.send', '{"to": "a@b.c"}', queue => 'default')
                """
        )
    }

    @Argument(help: "The kind of job: the name of its handler.")
    var kind: String

    @Argument(help: "The payload, one JSON value; - reads it from standard input.")
    var payload = "{}"

    @Option(help: "The queue it goes to.")
    var queue = "default"

    @Option(help: "0 runs first, 9 last.")
    var priority = 5

    @Option(help: ArgumentHelp("Run it at this time, such as 2030-01-31T08:00:00Z.", valueName: "time"))
    var runAt: TimeArgument?

    @Option(
        name: .customLong("in"),
        help: ArgumentHelp("Run it after this long, such as 90s or 1h30m.", valueName: "duration")
    )
    var delay: DurationArgument?

    @Option(help: "How many runs it may have before it becomes a dead letter. Else as its handler says.")
    var maxAttempts: Int?

    @Option(help: "At most one live job of the kind has this key.")
    var uniqueKey: String?

    @Option(help: "The W3C trace context that its run belongs to.")
    var traceparent: String?

    @Option(help: "What tracing systems add to the trace context.")
    var tracestate: String?

    @OptionGroup var database: DatabaseOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard (1...200).contains(kind.utf8.count) else {
            throw ValidationError("The kind has \(kind.utf8.count) bytes; give 1 to 200, such as email.send.")
        }
        guard (1...200).contains(queue.utf8.count) else {
            throw ValidationError("The queue's name has \(queue.utf8.count) bytes; give 1 to 200.")
        }
        guard (0...9).contains(priority) else {
            throw ValidationError("The priority \(priority) is not allowed; give 0 (first) to 9 (last).")
        }
        if let maxAttempts, !(1...1_000_000).contains(maxAttempts) {
            throw ValidationError("--max-attempts \(maxAttempts) is not allowed; give 1 to 1000000.")
        }
        if runAt != nil, delay != nil {
            throw ValidationError("--run-at and --in are both given; a job has one of them.")
        }
    }

    func run() async throws {
        var job = NewJob(kind: kind, payload: try readPayload())
        job.queue = queue
        job.priority = priority
        job.runAt = runAt?.date
        job.delay = delay?.duration
        job.maxAttempts = maxAttempts
        job.uniqueKey = uniqueKey
        job.traceparent = traceparent
        job.tracestate = tracestate
        let id = try await AdminDatabase.with(database.database) { try await $0.enqueue(job) }
        if output.json {
            Terminal.write(.object(["id": .integer(id)]))
        } else {
            Terminal.write("\(id)")
        }
    }

    /// The payload, checked here so that a slip in a shell's quoting is seen without a database.
    private func readPayload() throws -> String {
        let text =
            payload == "-"
            ? String(decoding: try FileHandle.standardInput.readToEnd() ?? Data(), as: UTF8.self)
            : payload
        do {
            _ = try JSONSerialization.jsonObject(with: Data(text.utf8), options: .fragmentsAllowed)
        } catch {
            throw CommandFailure(.usage, "the payload is not one JSON value; give one, such as '{\"to\": \"a@b.c\"}'.")
        }
        return text
    }
}

/// A point in time on the command line: RFC 3339.
struct TimeArgument: ExpressibleByArgument, Equatable {
    var date: Date

    init?(argument: String) {
        let styles = [Date.ISO8601FormatStyle(), Date.ISO8601FormatStyle(includingFractionalSeconds: true)]
        guard let date = styles.lazy.compactMap({ try? $0.parse(argument) }).first else { return nil }
        self.date = date
    }
}
