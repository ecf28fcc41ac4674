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

/// Waits until the condition holds, and records an issue when it does not within the time.
func eventually(
    _ what: Comment,
    within limit: Duration = .seconds(90),
    sourceLocation: SourceLocation = #_sourceLocation,
    _ condition: () throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + limit
    while try !condition() {
        guard .now < deadline else {
            Issue.record(what, sourceLocation: sourceLocation)
            return
        }
        try await Task.sleep(for: .milliseconds(5))
    }
}

/// Gives the body a directory of its own.
func withTemporaryDirectory<Result>(_ body: (String) async throws -> Result) async throws -> Result {
    let directory = FileManager.default.temporaryDirectory.appending(path: "breakwater-exec-\(UUID())").path
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    return try await body(directory)
}

/// The process number that a script wrote into a file, once it is there.
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

extension JobOutcome {
    /// The failure in it, if it is one.
    var failure: JobFailure? {
        switch self {
        case .failed(let failure), .unable(let failure), .discarded(let failure): failure
        case .unavailable(let failure, _), .throttled(let failure, _): failure
        case .succeeded, .snoozed, .released: nil
        }
    }
}
