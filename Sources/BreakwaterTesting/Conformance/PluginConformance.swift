public import Breakwater

/// Checks that a handler plugin does what ``HandlerPlugin`` promises to a worker. All plugins of Breakwater pass it.
///
/// The author of a plugin says which job provokes which behaviour, and the suite runs these jobs alone, at once, and
/// cancelled. It needs neither a worker nor a database.
///
/// ```swift
/// @Test func conformance() async throws {
///     let suite = PluginConformance(scenarios: [
///         .succeeds(Job(kind: "thumbnail", payload: #"{"image": "cat.png"}"#), result: #"{"bytes": 512}"#),
///         .discards(Job(kind: "thumbnail", payload: #"{"image": "cat.txt"}"#), name: "image.format"),
///         .waits(Job(kind: "thumbnail", payload: #"{"image": "huge.png"}"#)),
///     ]) { try ThumbnailPlugin() }
///     try await suite.check()
/// }
/// ```
///
/// Each scenario is checked for what it claims. These rules apply to all runs:
///
/// - A run ends, and throws `CancellationError` only if it was cancelled.
/// - A result is one JSON value that Postgres can store, and a failure has a name of 1 to 200 bytes without control
///   characters, which is the same in each run, and a message of at most 8,192 characters.
/// - A delay is neither negative nor longer than ten years, and a snooze is longer than zero.
/// - Runs at once get the outcomes and the reports of their own jobs.
/// - Nothing holds a run after ``HandlerPlugin/stop()``: no task that it started, and no reference to its context. If the
///   suite is alone in its process, the plugin leaves no descriptor and no child process either.
/// - A run after ``HandlerPlugin/stop()`` ends, and costs its job no attempt. A second stop ends too.
public struct PluginConformance: Sendable {
    /// What the plugin can do, each with a job that provokes it.
    public var scenarios: [Scenario]
    /// How long a run, a start or a stop may take, and a cancelled run to end. Make it longer than what the plugin waits
    /// by design, such as a `killAfter`. It counts for more where tests leave the process's tasks hardly a thread. Defaults
    /// to 60 seconds.
    public var patience = Duration.seconds(60)
    /// How many jobs run at once where several do, at least 2. Defaults to 16.
    public var runsAtOnce = 16
    /// Whether nothing else in this process opens files or starts processes meanwhile. The suite then also counts
    /// descriptors and child processes. Tests run in parallel, so set this only where the test has a process of its own.
    /// Defaults to false.
    public var isAlone = false

    let makePlugin: @Sendable () async throws -> any HandlerPlugin
    /// Gives a run what only a worker can give. It may change the job, for example its lease.
    package var prepare: @Sendable (Job, inout JobContext) async throws -> Job = { job, _ in job }

    /// - Parameters:
    ///   - scenarios: What the plugin can do. They run in this order.
    ///   - makePlugin: Makes the plugin. It is called several times, and each plugin is started and stopped as by a
    ///     worker.
    public init(scenarios: [Scenario], makePlugin: @escaping @Sendable () async throws -> any HandlerPlugin) {
        self.scenarios = scenarios
        self.makePlugin = makePlugin
    }

    /// Checks the plugin.
    ///
    /// - Throws: ``PluginConformanceError`` with one line for each violation.
    public func check() async throws {
        let violations = await violations()
        if !violations.isEmpty { throw PluginConformanceError(violations: violations) }
    }

    /// Checks the plugin.
    ///
    /// - Returns: One line for each violation, in plain words; none if the plugin conforms.
    public func violations() async -> [String] {
        let findings = Findings()
        await findings.withSession(of: self) { session in
            for scenario in scenarios { await session.check(scenario) }
            await session.checkTogether(scenarios)
        } afterStop: { session in
            await session.checkAfterStop(scenarios)
        }
        // What a wrong run leaves behind would only be the same violation again.
        if findings.all.isEmpty { await checkLeaks(findings) }
        return findings.all
    }
}

/// The error that a plugin does not conform.
public struct PluginConformanceError: Error, Sendable, CustomStringConvertible {
    /// One line for each violation.
    public var violations: [String]

    /// All violations.
    public var description: String {
        let count = violations.count == 1 ? "1 rule" : "\(violations.count) rules"
        return "the plugin violates \(count):\n" + violations.map { "- \($0)" }.joined(separator: "\n")
    }
}
