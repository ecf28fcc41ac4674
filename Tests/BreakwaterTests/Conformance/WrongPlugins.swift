import Breakwater
import BreakwaterTesting
import Logging
import Synchronization
import Testing

/// A plugin that breaks a rule.
struct WrongPlugin: Sendable, CustomTestStringConvertible {
    /// What is wrong with it.
    var testDescription: String
    var scenario: PluginConformance.Scenario
    /// What the only line says, after the scenario.
    var line: String
    var patience = Duration.seconds(60)
    var plugin: @Sendable () -> ScriptedPlugin

    /// A plugin that runs the scenario's kind wrongly.
    init(
        _ what: String,
        _ scenario: PluginConformance.Scenario,
        _ line: String,
        patience: Duration = .seconds(60),
        _ run: @escaping ScriptedPlugin.Run
    ) {
        self.init(what, scenario, line, patience: patience) { ScriptedPlugin(runs: ["k": run]) }
    }

    init(
        _ what: String,
        _ scenario: PluginConformance.Scenario,
        _ line: String,
        patience: Duration = .seconds(60),
        plugin: @escaping @Sendable () -> ScriptedPlugin
    ) {
        testDescription = what
        self.scenario = scenario
        self.line = line
        self.patience = patience
        self.plugin = plugin
    }
}

extension WrongPlugin {
    static let job = Job(kind: "k")
    /// No test waits longer than this for what never happens.
    static let short = Duration.seconds(8)
    fileprivate static let longName = String(repeating: "n", count: 201)

    static let outcomes: [WrongPlugin] = [
        WrongPlugin("another class", .succeeds(job), "it ended as failed (a: b), not as succeeded") { _, _ in
            .failed(JobFailure("a", "b"))
        },
        WrongPlugin("another result", .succeeds(job, result: "[1]"), "the result is [2], not [1]") { _, _ in
            .succeeded(result: "[2]")
        },
        WrongPlugin("another name", .fails(job, name: "a"), "the failure is named 'b', not 'a'") { _, _ in
            .failed(JobFailure("b", "b"))
        },
        WrongPlugin("another delay", .snoozes(job, for: .seconds(1)), "the delay is 2.0 seconds, not 1.0 seconds") {
            _,
            _ in
            .snoozed(.seconds(2))
        },
        WrongPlugin(
            "a result that is no JSON",
            .answers(job),
            "the result is not one JSON value that Postgres can store: {"
        ) { _, _ in .succeeded(result: "{") },
        WrongPlugin(
            "a result with a NUL",
            .answers(job),
            "the result is not one JSON value that Postgres can store: \"\\u0000\""
        ) { _, _ in .succeeded(result: "\"\\u0000\"") },
        WrongPlugin(
            "a name with a line feed",
            .fails(job),
            "the failure's name 'a b' has not 1 to 200 bytes, or has control characters"
        ) { _, _ in .failed(JobFailure("a\nb", "c")) },
        WrongPlugin("no message", .fails(job), "the failure 'a' has no message") { _, _ in .failed(JobFailure("a", ""))
        },
        WrongPlugin(
            "a message that is too long",
            .fails(job),
            "the message of the failure 'a' has 8193 characters, and 8192 are kept"
        ) { _, _ in .failed(JobFailure("a", String(repeating: "x", count: 8193))) },
        WrongPlugin("a negative delay", .answers(job), "the delay is negative: -1.0 seconds") { _, _ in
            .snoozed(.seconds(-1))
        },
        WrongPlugin("a delay without end", .answers(job), "the delay is longer than ten years") { _, _ in
            .unavailable(JobFailure("a", "b"), retryAfter: .seconds(1 << 40))
        },
        WrongPlugin("a snooze for no time", .answers(job), "it is snoozed for no time") { _, _ in .snoozed(.zero) },
        WrongPlugin(
            "a cancellation without one",
            .succeeds(job),
            "the run threw CancellationError, although it was not cancelled"
        ) { _, _ in throw CancellationError() },
        WrongPlugin("a run without an end", .succeeds(job), "the run had not ended after 8.0 seconds", patience: short)
        {
            _,
            _ in
            try await untilCancelled()
        },
        WrongPlugin("a long result", .givesTooMuch(job, keeping: 3), "4 bytes of the result are kept, not 1 to 3") {
            _,
            _ in
            .succeeded(result: "\"xxxx\"")
        },
        WrongPlugin(
            "a result that was not cut",
            .givesTooMuch(job, keeping: 3),
            "the result is [1], not a text of which the beginning is kept"
        ) { _, _ in .succeeded(result: "[1]") },
        WrongPlugin(
            "a line without the job",
            .logs(job, "a line"),
            "no line with 'a line' and the job's id was logged",
            patience: short
        ) { _, context in
            var logger = context.logger
            logger[metadataKey: "job"] = nil
            logger.info("a line")
            return .succeeded()
        },
        WrongPlugin("a report that is missing", .reports(job, fraction: 0.5), "the fraction is none, not 0.5") { _, _ in
            .succeeded()
        },
        WrongPlugin("a note that is wrong", .reports(job, note: "a"), "the note is b, not a") { _, context in
            context.report(note: "b")
            return .succeeded()
        },
        WrongPlugin("a checkpoint that is wrong", .reports(job, checkpoint: "[1]"), "the checkpoint is [2], not [1]") {
            _,
            context in
            try context.saveCheckpoint([2])
            return .succeeded()
        },
        WrongPlugin("a field that is missing", .describesJob(job), "the field tracestate is none, not vendor=value") {
            .succeeded(result: ScriptedPlugin.description(of: $0, $1, without: "tracestate"))
        },
        WrongPlugin(
            "a checkpoint that is missing",
            .describesJob(job),
            #"the field checkpoint is none, not {"page": 3}"#
        ) {
            .succeeded(result: ScriptedPlugin.description(of: $0, $1, without: "checkpoint"))
        },
        WrongPlugin("no deadline", .describesJob(job), "the field deadline is '', not the run's deadline") {
            .succeeded(result: ScriptedPlugin.description(of: $0, $1, without: "deadline"))
        },
    ]

    /// A plugin whose runs know their number in the order in which they begin: the one that is cancelled alone, the one
    /// that is cancelled before it begins, the one at its deadline, the one beside another, and the one that is cancelled
    /// beside it.
    private static func numbered(
        _ run: @escaping @Sendable (_ number: Int, JobContext) async throws -> JobOutcome
    ) -> @Sendable () -> ScriptedPlugin {
        {
            let counter = Counter()
            return ScriptedPlugin(runs: ["k": { _, context in try await run(counter.next(), context) }])
        }
    }

    private static func waitForever() async throws -> JobOutcome { try await untilCancelled() }

    static let cancellations: [WrongPlugin] = [
        WrongPlugin(
            "a run that goes on",
            .waits(job),
            "cancelled: the run had not ended 8.0 seconds after its cancellation",
            patience: short,
            plugin: numbered { number, _ in
                guard number == 1 else { return try await waitForever() }
                // Unstructured, so that it is not cancelled with the run. It is awaited, and never ends.
                return try await Task { try await waitForever() }.value
            }
        ),
        WrongPlugin(
            "a failure",
            .waits(job),
            "cancelled: the run ended as failed (a: b); a cancelled run throws CancellationError",
            plugin: numbered { number, _ in
                do {
                    return try await waitForever()
                } catch  where number == 1 {
                    return .failed(JobFailure("a", "b"))
                }
            }
        ),
        WrongPlugin(
            "another error",
            .waits(job),
            "cancelled: the run threw Trouble(), not CancellationError",
            plugin: numbered { number, _ in
                do {
                    return try await waitForever()
                } catch  where number == 1 {
                    throw ScriptedPlugin.Trouble()
                }
            }
        ),
        WrongPlugin(
            "an end of its own",
            .waits(job),
            "the run ended before it was cancelled: succeeded",
            plugin: numbered { number, _ in number == 1 ? .succeeded() : try await waitForever() }
        ),
        WrongPlugin(
            "a work that begins",
            .waits(job),
            "cancelled before it began: the run ended as failed (a: b)",
            plugin: numbered { number, _ in
                if number == 2 { return .failed(JobFailure("a", "b")) }
                return try await waitForever()
            }
        ),
        WrongPlugin(
            "a discarded job",
            .waits(job),
            "at its deadline: it ended as discarded (late: it is late)",
            plugin: numbered { number, _ in
                if number == 3 { return .discarded(JobFailure("late", "it is late")) }
                return try await waitForever()
            }
        ),
        WrongPlugin(
            "one for another",
            .waits(job),
            "beside another: the run ended when another was cancelled: it threw"
        ) {
            let counter = Counter()
            return ScriptedPlugin(runs: [
                "k": { _, _ in
                    let isShared = counter.next() > 3
                    defer { if isShared { counter.isOver.store(true, ordering: .relaxed) } }
                    try await waitUntil("another run is over") { counter.isOver.load(ordering: .relaxed) }
                    throw ScriptedPlugin.Trouble()
                }
            ])
        },
    ]

    static let payloads: [WrongPlugin] = [
        WrongPlugin(
            "a letter that is lost",
            .echoes(job),
            "with the payload 'a text: combining': the result is"
        ) { job, _ in
            .succeeded(result: job.payload.utf8.starts(with: "\"e\u{301}".utf8) ? "\"e\"" : job.payload)
        },
        WrongPlugin(
            "a text that fails",
            .echoes(job),
            "with the payload 'a text: 10 kB': it ended as failed (a: b)"
        ) { job, _ in
            job.payload.hasPrefix("\"0123456789") && job.payload.utf8.count == 10_002
                ? .failed(JobFailure("a", "b")) : .succeeded(result: job.payload)
        },
        WrongPlugin("the job of another", .echoes(job), "beside others: the run with the payload") {
            let last = LastPayload()
            return ScriptedPlugin(runs: ["k": { job, _ in await last.result(for: job) }])
        },
    ]

    /// Confuses jobs that run at once: each gets the payload of the one before.
    actor LastPayload {
        private var payload = ""

        func result(for job: Job) -> JobOutcome {
            defer { payload = job.payload }
            return .succeeded(result: job.payload.contains("one of several") ? payload : job.payload)
        }
    }
}

/// Counts runs.
final class Counter: Sendable {
    private let last = Atomic(0)
    let isOver = Atomic(false)

    func next() -> Int { last.wrappingAdd(1, ordering: .relaxed).newValue }
}
