import BreakwaterTesting
import Breakwater
import BreakwaterExec
import Foundation
import Testing

/// Runs a shell script as a job.
func run(
    _ script: String,
    payload: String = "{}",
    log: RecordedLog = RecordedLog(),
    maxOutputBytes: Int = 1 << 20
) async throws -> JobOutcome {
    let plugin = try ExecPlugin(command: ["sh", "-c", script], maxOutputBytes: maxOutputBytes)
    return try await run(plugin, Job(kind: "test", payload: payload), log: log)
}

func run(_ plugin: ExecPlugin, _ job: Job, log: RecordedLog = RecordedLog()) async throws -> JobOutcome {
    let context = JobContext(job: job, deadline: .now + .seconds(60), logger: log.logger())
    return try await plugin.run(job, context: context)
}

/// Gives the body a temporary directory of its own.
func withTemporaryDirectory<Result>(_ body: (String) async throws -> Result) async throws -> Result {
    let directory = FileManager.default.temporaryDirectory.appending(path: "breakwater-exec-\(UUID())").path
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    return try await body(directory)
}

/// The process id that a script wrote into a file, or nil until it is there.
func processNumber(in file: String) -> Int32? {
    guard let text = try? String(contentsOfFile: file, encoding: .utf8), text.hasSuffix("\n") else { return nil }
    return Int32(text.trimmingCharacters(in: .whitespacesAndNewlines))
}

/// Whether the process has ended, even if its parent has not reaped it yet.
func isGone(_ process: Int32) -> Bool {
    guard let status = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8) else { return true }
    // The state follows the name, which is in parentheses.
    return status.split(separator: ")").last?.split(separator: " ").first == "Z"
}
