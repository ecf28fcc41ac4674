import BreakwaterTesting
import Breakwater
import Testing

@testable import BreakwaterHTTP

/// Runs one job through the plugin.
func run(
    _ plugin: HTTPPlugin,
    _ job: Job = Job(kind: "test"),
    within limit: Duration = .seconds(300),
    log: RecordedLog = RecordedLog()
) async throws -> JobOutcome {
    try await plugin.run(job, context: JobContext(job: job, deadline: .now + limit, logger: log.logger()))
}

/// Runs one job against a server that answers every request in this way.
func outcome(
    of reply: TestServer.Reply,
    within limit: Duration = .seconds(300),
    maxResponseBytes: Int = 64 << 10,
    log: RecordedLog = RecordedLog()
) async throws -> JobOutcome {
    try await withServer({ _ in reply }) { server in
        try await run(try HTTPPlugin(url: server.url, maxResponseBytes: maxResponseBytes), within: limit, log: log)
    }
}
