import Breakwater
import BreakwaterStdio
import BreakwaterTesting
import Foundation
import Testing

/// The folder of the libraries for handlers in other languages.
let clients = URL(filePath: #filePath).deletingLastPathComponent()
    .appending(path: "../../Sources/BreakwaterStdio/Clients").standardizedFileURL.path

/// The environment of a test's Python program: it finds the library, and leaves no compiled copy of it in the tree.
let pythonEnvironment = ["PYTHONPATH": clients + "/python", "PYTHONDONTWRITEBYTECODE": "1"]

/// The settings of a test's pool: the defaults, with waits that suit a test.
func testSettings(_ change: (inout StdioSettings) -> Void = { _ in }) -> StdioSettings {
    var settings = StdioSettings()
    settings.startTimeout = .seconds(60)
    settings.killAfter = .milliseconds(300)
    change(&settings)
    return settings
}

/// Gives the body a plugin that runs the command, and ends its processes afterwards.
func withPlugin(
    _ command: [String],
    log: RecordedLog = RecordedLog(),
    settings: StdioSettings = testSettings(),
    _ body: (StdioPlugin) async throws -> Void
) async throws {
    let plugin = try StdioPlugin(
        command: command,
        environment: pythonEnvironment,
        inherit: ["PATH", "HOME"],
        settings: settings
    )
    await plugin.start(logger: log.logger())
    do {
        try await body(plugin)
        await plugin.stop()
    } catch {
        await plugin.stop()
        throw error
    }
}

/// Gives the body a plugin whose handler is the body of a Python function of `job`.
func withPython(
    _ handler: String,
    log: RecordedLog = RecordedLog(),
    settings: StdioSettings = testSettings(),
    _ body: (StdioPlugin) async throws -> Void
) async throws {
    let lines = handler.split(separator: "\n", omittingEmptySubsequences: false).map { "    \($0)\n" }.joined()
    let script = """
        import os, sys, time, signal, subprocess
        from breakwater_stdio import *
        def handle(job):
        \(lines)
        serve(handle)
        """
    try await withPlugin(["python3", "-c", script], log: log, settings: settings, body)
}

/// Gives the body a plugin whose process is a raw Python program: `say` writes a line, `hear` reads one, and the hello
/// was already exchanged.
func withRawProcess(
    _ program: String,
    hello: String = #"{"type":"hello","protocol":1,"jobs":1}"#,
    log: RecordedLog = RecordedLog(),
    settings: StdioSettings = testSettings(),
    _ body: (StdioPlugin) async throws -> Void
) async throws {
    let script = """
        import json, os, sys, time, signal
        def say(text):
            sys.stdout.write(text + "\\n"); sys.stdout.flush()
        def hear():
            line = sys.stdin.readline()
            if not line: sys.exit(0)
            return json.loads(line)
        def succeed(run):
            say('{"type":"result","run":%d,"outcome":"succeeded"}' % run)
        hear()
        say('\(hello)')
        \(program)
        """
    try await withPlugin(["python3", "-u", "-c", script], log: log, settings: settings, body)
}

func run(
    _ plugin: StdioPlugin,
    _ job: Job = Job(kind: "test"),
    log: RecordedLog = RecordedLog(),
    reports: RunReports? = nil
) async throws -> JobOutcome {
    var context = JobContext(job: job, deadline: .now + .seconds(60), logger: log.logger())
    context.reports = reports
    return try await plugin.run(job, context: context)
}

/// Runs a job and expects an outcome.
func expect(
    _ plugin: StdioPlugin,
    _ job: Job = Job(kind: "test"),
    endsAs expected: JobOutcome,
    sourceLocation: SourceLocation = #_sourceLocation
) async throws {
    let outcome = try await run(plugin, job)
    #expect(outcome == expected, sourceLocation: sourceLocation)
}

/// Gives the body a temporary directory of its own.
func withTemporaryDirectory<Result>(_ body: (String) async throws -> Result) async throws -> Result {
    let directory = FileManager.default.temporaryDirectory.appending(path: "breakwater-stdio-\(UUID())").path
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    return try await body(directory)
}

/// Whether the process has ended, even if its parent has not reaped it yet.
func isGone(_ process: Int32) -> Bool {
    guard let status = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8) else { return true }
    // The state follows the name, which is in parentheses.
    return status.split(separator: ")").last?.split(separator: " ").first == "Z"
}
