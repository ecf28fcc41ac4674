import Breakwater
import BreakwaterTesting
import Foundation
import Glibc
import Logging
import Synchronization
import TestPrograms
import Testing

@Suite("The conformance suite") struct PluginConformanceTests {
    @Test(
        "names what is wrong",
        arguments: [WrongPlugin.outcomes, WrongPlugin.cancellations, WrongPlugin.payloads].flatMap(\.self)
    )
    func wrong(_ wrong: WrongPlugin) async {
        var suite = PluginConformance(scenarios: [wrong.scenario], makePlugin: wrong.plugin)
        suite.patience = wrong.patience
        let violations = await suite.violations()
        #expect(violations.first?.hasPrefix("\(wrong.scenario)") == true)
        #expect(violations.first?.contains(wrong.line) == true, "\(violations)")
    }

    @Test("names a rule that is broken once only once")
    func once() async {
        let suite = PluginConformance(scenarios: [.fails(WrongPlugin.job)] + ScriptedPlugin.scenarios) {
            ScriptedPlugin()
        }
        #expect(await suite.violations() == ["fails {}: it ended as succeeded, not as failed"])
        await #expect {
            try await suite.check()
        } throws: { error in
            "\(error)" == "the plugin violates 1 rule:\n- fails {}: it ended as succeeded, not as failed"
        }
    }

    @Test("names a failure whose name changes")
    func changingName() async {
        let suite = PluginConformance(scenarios: [.fails(WrongPlugin.job)]) {
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
        let suite = PluginConformance(scenarios: [.reports(WrongPlugin.job, note: "a"), .echoes(Job(kind: "echo"))]) {
            let contexts = Contexts()
            return ScriptedPlugin(runs: [
                "k": { _, context in
                    // If another run goes on, its context is used.
                    (contexts.other ?? context).report(note: "a")
                    if contexts.other != nil { contexts.wasUsed.store(true, ordering: .relaxed) }
                    return .succeeded()
                },
                "echo": { job, context in
                    contexts.other = context
                    defer { contexts.other = nil }
                    if job.payload.contains("one of several") {
                        // The other run may have begun before this one.
                        try? await waitUntil("another run used it", deadline: .seconds(2)) {
                            contexts.wasUsed.load(ordering: .relaxed)
                        }
                    }
                    return .succeeded(result: job.payload)
                },
            ])
        }
        let violations = await suite.violations()
        #expect(violations.contains { $0.hasSuffix("got reports that are not its own") })
        #expect(violations.contains("reports {}: the note is none, not a"))
    }

    final class Contexts: Sendable {
        let wasUsed = Atomic(false)
        private let state = Mutex<JobContext?>(nil)
        var other: JobContext? {
            get { state.withLock { $0 } }
            set { state.withLock { $0 = newValue } }
        }
    }

    // MARK: The start and the stop

    private func violations(_ plugin: @escaping @Sendable () throws -> ScriptedPlugin) async -> [String] {
        var suite = PluginConformance(scenarios: [.succeeds(WrongPlugin.job)], makePlugin: plugin)
        suite.patience = WrongPlugin.short
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
        let hang: @Sendable () async -> Void = { _ = try? await untilCancelled() }
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
            await afterStop { try await untilCancelled() } == [
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
                    // Unstructured and not awaited: this is what the suite must find.
                    Task { try await untilCancelled() }
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
        var suite = PluginConformance(scenarios: [.succeeds(WrongPlugin.job)]) { ScriptedPlugin(runs: ["k": run]) }
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
