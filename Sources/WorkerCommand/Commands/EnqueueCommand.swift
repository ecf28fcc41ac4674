import ArgumentParser
import Breakwater
import BreakwaterAdmin
import Foundation

/// `worker enqueue`: adds one job and prints its id, or adds one for each line of a file.
struct EnqueueCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "enqueue",
            abstract: "Add one job and print its id, or one job for each line of a file.",
            discussion: """
                Examples:

                  worker enqueue email.send '{"to": "a@b.c"}'
                  worker enqueue report.build - --in 1h30m --max-attempts 3 < report.json
                  worker enqueue sync.account '{"id": 7}' --unique-key account-7
                  worker enqueue report.send --after 4711 --after 4712

                With --unique-key, and a live job of that kind and key there already, it prints that job's id and \
                adds nothing. The same in SQL:

                  SELECT breakwater.enqueue('email.send', '{"to": "a@b.c"}', queue => 'default')

                With --file, every line is a job: a JSON object with a kind and, as it likes, payload, queue, priority, \
                run_at, max_attempts, unique_key, traceparent and tracestate. Where the kind is an argument, every line is a payload:

                  worker enqueue --file jobs.jsonl --import january
                  psql -Atc "SELECT to_jsonb(u) FROM users u" | worker enqueue email.send --file - --rate 500

                Lines go in by portions, each committed by itself. Ctrl-C ends it after the present one and says how to \
                go on: with --import the same command does, since the database remembers the line it is at, and no line \
                is added twice, however it ended; else with --from-line. Lines that have a unique_key may be repeated.
                """
        )
    }

    @Argument(help: "The kind of job: the name of its handler. Not needed where the lines of a file name theirs.")
    var kind: String?

    @Argument(help: "The payload, one JSON value; - reads it from standard input. {} unless said.")
    var payload: String?

    @OptionGroup var file: EnqueueFileOptions

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

    @Option(help: ArgumentHelp("Run it when this job has succeeded. May be given many times.", valueName: "id"))
    var after: [Int64] = []

    @Option(
        help: ArgumentHelp(
            "When a job of --after dies: hold (wait for its redrive), cancel (die too) or run. hold unless said.",
            valueName: "what"
        )
    )
    var onDead: OnDead?

    @Option(help: ArgumentHelp("Make it part of this batch; see worker batches.", valueName: "id"))
    var batch: Int64?

    @OptionGroup var database: DatabaseOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        if onDead != nil, after.isEmpty {
            throw ValidationError("--on-dead says what happens when a job of --after dies; give --after too.")
        }
        if file.file != nil {
            if !after.isEmpty || batch != nil {
                throw ValidationError(
                    "--after and --batch are for one job; for many use breakwater.enqueue_many in SQL."
                )
            }
            if payload != nil {
                throw ValidationError("A payload and --file are both given; the lines are the payloads.")
            }
            if uniqueKey != nil {
                throw ValidationError("--unique-key is for one job; lines name theirs in unique_key.")
            }
        } else if kind == nil {
            throw ValidationError("Say what: a kind, such as email.send, or --file.")
        }
        if let kind, !(1...200).contains(kind.utf8.count) {
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
        var job = NewJob(kind: kind ?? "")
        job.queue = queue
        job.priority = priority
        job.runAt = runAt?.date
        job.delay = delay?.duration
        job.maxAttempts = maxAttempts
        job.uniqueKey = uniqueKey
        job.traceparent = traceparent
        job.tracestate = tracestate
        job.after = after
        job.onDead = onDead?.rawValue
        job.batch = batch
        if let path = file.file {
            try await FileEnqueue(
                path: path,
                options: file,
                defaults: job,
                database: database.database,
                isJSON: output.json
            )
            .run()
            return
        }
        job.payload = try Self.readPayload(payload)
        let complete = job
        let id = try await AdminDatabase.with(database.database) { try await $0.enqueue(complete) }
        if output.json {
            Terminal.write(.object(["id": .integer(id)]))
        } else {
            Terminal.write("\(id)")
        }
    }

    /// The largest string or list that a `jsonb` value can hold, in bytes.
    private static let longestPayload = 256 << 20

    /// Reads the payload and checks it here, so that a mistake in shell quoting is found before the database is needed.
    static func readPayload(_ payload: String?) throws -> String {
        var text = payload ?? "{}"
        if payload == "-" {
            let input = try FileHandle.standardInput.read(upToCount: longestPayload + 1) ?? Data()
            guard input.count <= longestPayload else {
                throw CommandFailure(.usage, "the payload is larger than 256 MiB, which Postgres cannot store.")
            }
            guard let decoded = String(validating: input, as: UTF8.self) else {
                throw CommandFailure(.usage, "the payload is not UTF-8; JSON is always written in it.")
            }
            text = decoded
        }
        guard JobResult.isStorable(text) else {
            throw CommandFailure(
                .usage,
                "the payload is not one JSON value that Postgres can store; give one, such as '{\"to\": \"a@b.c\"}'."
            )
        }
        return text
    }
}

/// What becomes of a job when one that it waits for dies.
enum OnDead: String, ExpressibleByArgument, CaseIterable {
    case hold, cancel, run
}

/// A point in time on the command line, in the format of RFC 3339.
struct TimeArgument: ExpressibleByArgument, Equatable {
    var date: Date

    init?(argument: String) {
        let styles = [Date.ISO8601FormatStyle(), Date.ISO8601FormatStyle(includingFractionalSeconds: true)]
        guard let date = styles.lazy.compactMap({ try? $0.parse(argument) }).first else { return nil }
        self.date = date
    }
}
