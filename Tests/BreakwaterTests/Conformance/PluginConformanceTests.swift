import Breakwater
import BreakwaterTesting
import Foundation
import Glibc
import Logging
import Synchronization
import TestPrograms
import Testing

@Suite("The conformance suite") struct PluginConformanceTests {
    /// A plugin that breaks a rule.
    struct Wrong: Sendable, CustomTestStringConvertible {
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

    private static let job = Job(kind: "k")
    /// No test waits longer than this for what never happens.
    private static let short = Duration.seconds(8)
    private static let longName = String(repeating: "n", count: 201)

    static let wrongOutcomes: [Wrong] = [
        Wrong("another class", .succeeds(job), "it ended as failed (a: b), not as succeeded") { _, _ in
            .failed(JobFailure("a", "b"))
        },
        Wrong("another result", .succeeds(job, result: "[1]"), "the result is [2], not [1]") { _, _ in
            .succeeded(result: "[2]")
        },
        Wrong("another name", .fails(job, name: "a"), "the failure is named 'b', not 'a'") { _, _ in
            .failed(JobFailure("b", "b"))
        },
        Wrong("another delay", .snoozes(job, for: .seconds(1)), "the delay is 2.0 seconds, not 1.0 seconds") { _, _ in
            .snoozed(.seconds(2))
        },
        Wrong("a result that is no JSON", .answers(job), "the result is not one JSON value that Postgres can store: {")
        { _, _ in .succeeded(result: "{") },
        Wrong(
            "a result with a NUL",
            .answers(job),
            "the result is not one JSON value that Postgres can store: \"\\u0000\""
        ) { _, _ in .succeeded(result: "\"\\u0000\"") },
        Wrong(
            "a name with a line feed",
            .fails(job),
            "the failure's name 'a b' has not 1 to 200 bytes, or has control characters"
        ) { _, _ in .failed(JobFailure("a\nb", "c")) },
        Wrong("no message", .fails(job), "the failure 'a' has no message") { _, _ in .failed(JobFailure("a", "")) },
        Wrong(
            "a message that is too long",
            .fails(job),
            "the message of the failure 'a' has 8193 characters, and 8192 are kept"
        ) { _, _ in .failed(JobFailure("a", String(repeating: "x", count: 8193))) },
        Wrong("a negative delay", .answers(job), "the delay is negative: -1.0 seconds") { _, _ in
            .snoozed(.seconds(-1))
        },
        Wrong("a delay without end", .answers(job), "the delay is longer than ten years") { _, _ in
            .unavailable(JobFailure("a", "b"), retryAfter: .seconds(1 << 40))
        },
        Wrong("a snooze for no time", .answers(job), "it is snoozed for no time") { _, _ in .snoozed(.zero) },
        Wrong(
            "a cancellation without one",
            .succeeds(job),
            "the run threw CancellationError, although it was not cancelled"
        ) { _, _ in throw CancellationError() },
        Wrong("a run without an end", .succeeds(job), "the run had not ended after 8.0 seconds", patience: short) {
            _,
            _ in
            try await Task.sleep(for: .seconds(600))
            return .succeeded()
        },
        Wrong("a long result", .givesTooMuch(job, keeping: 3), "4 bytes of the result are kept, not 1 to 3") { _, _ in
            .succeeded(result: "\"xxxx\"")
        },
        Wrong(
            "a result that was not cut",
            .givesTooMuch(job, keeping: 3),
            "the result is [1], not a text of which the beginning is kept"
        ) { _, _ in .succeeded(result: "[1]") },
        Wrong(
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
        Wrong("a report that is missing", .reports(job, fraction: 0.5), "the fraction is none, not 0.5") { _, _ in
            .succeeded()
        },
        Wrong("a note that is wrong", .reports(job, note: "a"), "the note is b, not a") { _, context in
            context.report(note: "b")
            return .succeeded()
        },
        Wrong("a checkpoint that is wrong", .reports(job, checkpoint: "[1]"), "the checkpoint is [2], not [1]") {
            _,
            context in
            try context.saveCheckpoint([2])
            return .succeeded()
        },
        Wrong("a field that is missing", .describesJob(job), "the field tracestate is none, not vendor=value") {
            .succeeded(result: ScriptedPlugin.description(of: $0, $1, without: "tracestate"))
        },
        Wrong("a checkpoint that is missing", .describesJob(job), #"the field checkpoint is none, not {"page": 3}"#) {
            .succeeded(result: ScriptedPlugin.description(of: $0, $1, without: "checkpoint"))
        },
        Wrong("no deadline", .describesJob(job), "the field deadline is '', not the run's deadline") {
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

    final class Counter: Sendable {
        private let last = Atomic(0)
        let isOver = Atomic(false)

        func next() -> Int { last.wrappingAdd(1, ordering: .relaxed).newValue }
    }

    private static func waitForever() async throws -> JobOutcome {
        try await Task.sleep(for: .seconds(600))
        return .succeeded()
    }

    static let wrongCancellations: [Wrong] = [
        Wrong(
            "a run that goes on",
            .waits(job),
            "cancelled: the run had not ended 8.0 seconds after its cancellation",
            patience: short,
            plugin: numbered { number, _ in
                guard number == 1 else { return try await waitForever() }
                // Unstructured, so that it is not cancelled with the run. It is awaited.
                await Task { try? await Task.sleep(for: .seconds(200)) }.value
                return .succeeded()
            }
        ),
        Wrong(
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
        Wrong(
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
        Wrong(
            "an end of its own",
            .waits(job),
            "the run ended before it was cancelled: succeeded",
            plugin: numbered { number, _ in number == 1 ? .succeeded() : try await waitForever() }
        ),
        Wrong(
            "a work that begins",
            .waits(job),
            "cancelled before it began: the run ended as failed (a: b)",
            plugin: numbered { number, _ in
                if number == 2 { return .failed(JobFailure("a", "b")) }
                return try await waitForever()
            }
        ),
        Wrong(
            "a discarded job",
            .waits(job),
            "at its deadline: it ended as discarded (late: it is late)",
            plugin: numbered { number, _ in
                if number == 3 { return .discarded(JobFailure("late", "it is late")) }
                return try await waitForever()
            }
        ),
        Wrong("one for another", .waits(job), "beside another: the run ended when another was cancelled: it threw") {
            let counter = Counter()
            return ScriptedPlugin(runs: [
                "k": { _, _ in
                    let isShared = counter.next() > 3
                    defer { if isShared { counter.isOver.store(true, ordering: .relaxed) } }
                    while !counter.isOver.load(ordering: .relaxed) { try await Task.sleep(for: .milliseconds(5)) }
                    throw ScriptedPlugin.Trouble()
                }
            ])
        },
    ]

    static let wrongPayloads: [Wrong] = [
        Wrong(
            "a letter that is lost",
            .echoes(job),
            "with the payload 'a text: combining': the result is"
        ) { job, _ in
            .succeeded(result: job.payload.utf8.starts(with: "\"e\u{301}".utf8) ? "\"e\"" : job.payload)
        },
        Wrong(
            "a text that fails",
            .echoes(job),
            "with the payload 'a text: 10 kB': it ended as failed (a: b)"
        ) { job, _ in
            job.payload.hasPrefix("\"0123456789") && job.payload.utf8.count == 10_002
                ? .failed(JobFailure("a", "b")) : .succeeded(result: job.payload)
        },
        Wrong("the job of another", .echoes(job), "beside others: the run with the payload") {
            let last = LastPayload()
            return ScriptedPlugin(runs: ["k": { job, _ in try await last.result(for: job) }])
        },
    ]

    /// Keeps a job where the next one replaces it.
    actor LastPayload {
        private var payload = ""

        func result(for job: Job) async throws -> JobOutcome {
            payload = job.payload
            // Others that begin meanwhile replace the payload.
            if payload.contains("one of several") { try await Task.sleep(for: .milliseconds(100)) }
            return .succeeded(result: payload)
        }
    }

    @Test(
        "names what is wrong",
        arguments: [wrongOutcomes, wrongCancellations, wrongPayloads].flatMap(\.self)
    )
    func wrong(_ wrong: Wrong) async {
        var suite = PluginConformance(scenarios: [wrong.scenario], makePlugin: wrong.plugin)
        suite.patience = wrong.patience
        let violations = await suite.violations()
        #expect(violations.first?.hasPrefix("\(wrong.scenario)") == true)
        #expect(violations.first?.contains(wrong.line) == true, "\(violations)")
    }

    @Test("names a rule that is broken once only once")
    func once() async {
        let suite = PluginConformance(scenarios: [.fails(Self.job)] + ScriptedPlugin.scenarios) { ScriptedPlugin() }
        #expect(await suite.violations() == ["fails {}: it ended as succeeded, not as failed"])
        await #expect {
            try await suite.check()
        } throws: { error in
            "\(error)" == "the plugin violates 1 rule:\n- fails {}: it ended as succeeded, not as failed"
        }
    }

    @Test("names a failure whose name changes")
    func changingName() async {
        let suite = PluginConformance(scenarios: [.fails(Self.job)]) {
            let counter = Counter()
            return ScriptedPlugin(runs: ["k": { _, _ in .failed(JobFailure("it.\(counter.next())", "no")) }])
        }
        #expect(
            await suite.violations() == [
                "fails {}: its failure is named 'it.1' and then 'it.2': no rule can match a name that changes"
            ]
        )
    }

    @Test("names reports that belong to another run")
    func reportsOfAnother() async {
        let suite = PluginConformance(scenarios: [.reports(Self.job, note: "a"), .echoes(Job(kind: "echo"))]) {
            let contexts = Contexts()
            return ScriptedPlugin(runs: [
                "k": { _, context in
                    // If another run goes on, its context is used.
                    (contexts.other ?? context).report(note: "a")
                    return .succeeded()
                },
                "echo": { job, context in
                    contexts.other = context
                    defer { contexts.other = nil }
                    if job.payload.contains("one of several") { try await Task.sleep(for: .milliseconds(300)) }
                    return .succeeded(result: job.payload)
                },
            ])
        }
        let violations = await suite.violations()
        #expect(violations.contains { $0.hasSuffix("got reports that are not its own") })
        #expect(violations.contains("reports {}: the note is none, not a"))
    }

    final class Contexts: Sendable {
        private let state = Mutex<JobContext?>(nil)
        var other: JobContext? {
            get { state.withLock { $0 } }
            set { state.withLock { $0 = newValue } }
        }
    }

    // MARK: The start and the stop

    private func violations(_ plugin: @escaping @Sendable () throws -> ScriptedPlugin) async -> [String] {
        var suite = PluginConformance(scenarios: [.succeeds(Self.job)], makePlugin: plugin)
        suite.patience = Self.short
        return await suite.violations()
    }

    @Test("names a plugin that cannot be made, or that can run nothing")
    func making() async {
        #expect(await violations { throw ScriptedPlugin.Trouble() } == ["the plugin cannot be made: Trouble()"])
        #expect(
            await violations { ScriptedPlugin(capacity: 0) }.first == "its capacity is 0: it must be at least 1"
        )
    }

    @Test("names a start, a stop or a second stop that never returns")
    func hanging() async {
        let hang: @Sendable () async -> Void = { try? await Task.sleep(for: .seconds(200)) }
        #expect(
            await violations { ScriptedPlugin(onStart: hang) } == ["start had not returned after 8.0 seconds"]
        )
        #expect(await violations { ScriptedPlugin(onStop: hang) } == ["stop had not returned after 8.0 seconds"])
        let second = await violations {
            let counter = Counter()
            return ScriptedPlugin(onStop: { if counter.next() > 1 { await hang() } })
        }
        #expect(second == ["a second stop had not returned after 8.0 seconds"])
    }

    @Test("names a run after the stop that costs its job an attempt, or never ends")
    func afterStop() async {
        func afterStop(_ run: @escaping @Sendable () async throws -> JobOutcome) async -> [String] {
            await violations {
                let counter = Counter()
                return ScriptedPlugin(
                    runs: ["k": { _, _ in try await counter.isOver.load(ordering: .relaxed) ? run() : .succeeded() }],
                    onStop: { counter.isOver.store(true, ordering: .relaxed) }
                )
            }
        }
        #expect(await afterStop { .released } == [])
        #expect(
            await afterStop { .failed(JobFailure("a", "b")) } == [
                "succeeds {}, after the stop: it ended as failed (a: b), which is not the job's fault; return released"
            ]
        )
        #expect(
            await afterStop { try await Self.waitForever() } == [
                "succeeds {}, after the stop: the run had not ended after 8.0 seconds"
            ]
        )
    }

    // MARK: What is left

    @Test("names a task that goes on after the stop")
    func task() async {
        let violations = await violations {
            ScriptedPlugin(runs: [
                "k": { _, _ in
                    Task { try await Task.sleep(for: .seconds(200)) }
                    return .succeeded()
                }
            ])
        }
        #expect(violations.count == 1)
        #expect(violations.first?.hasPrefix("after the stop, 1 run is still held: by a task") == true)
    }

    @Test("names a context that is kept after the stop")
    func context() async {
        let kept = Contexts()
        let violations = await violations {
            ScriptedPlugin(runs: [
                "k": { _, context in
                    kept.other = context
                    return .succeeded()
                }
            ])
        }
        #expect(violations.first?.hasPrefix("after the stop, 1 run is still held") == true)
    }

    private static func isLeftBehind(_ line: String, by run: @escaping ScriptedPlugin.Run) async throws {
        var suite = PluginConformance(scenarios: [.succeeds(job)]) { ScriptedPlugin(runs: ["k": run]) }
        suite.isAlone = true
        suite.patience = .milliseconds(200)
        let violations = await suite.violations()
        try #require(violations.count == 1 && violations[0].contains(line), "\(violations)")
    }

    @Test("names descriptors and processes that are left behind, if it is alone")
    func leftBehind() async throws {
        try await runAlone("BreakwaterTests.PluginConformanceTests/leftBehind") {
            try await PluginConformance(scenarios: ScriptedPlugin.scenarios) { ScriptedPlugin() }.check()
            try await Self.isLeftBehind("1 more descriptors, such as /dev/null") { _, _ in
                _ = open("/dev/null", O_RDONLY | O_CLOEXEC)
                return .succeeded()
            }
            try await Self.isLeftBehind("1 more child processes") { _, _ in
                var process: pid_t = 0
                var arguments: [UnsafeMutablePointer<CChar>?] = [strdup("sleep"), strdup("30"), nil]
                posix_spawnp(&process, "sleep", nil, nil, &arguments, environ)
                return .succeeded()
            }
        }
    }
}
