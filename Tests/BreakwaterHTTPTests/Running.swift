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

/// Waits until the condition holds, and records an issue when it does not within the time.
func eventually(
    _ what: Comment,
    within limit: Duration = .seconds(300),
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

/// The class of an outcome, for tables.
enum OutcomeClass: Sendable, Equatable {
    case succeeded, failed, unavailable, throttled, unable, discarded, other
}

extension JobOutcome {
    var outcomeClass: OutcomeClass {
        switch self {
        case .succeeded: .succeeded
        case .failed: .failed
        case .unavailable: .unavailable
        case .throttled: .throttled
        case .discarded: .discarded
        case .unable: .unable
        case .snoozed, .released: .other
        }
    }

    /// The failure in it, if it is one.
    var failure: JobFailure? {
        switch self {
        case .failed(let failure), .unable(let failure), .discarded(let failure): failure
        case .unavailable(let failure, _), .throttled(let failure, _): failure
        case .succeeded, .snoozed, .released: nil
        }
    }

    /// When it is to be retried, if it says.
    var retryAfter: Duration? {
        switch self {
        case .unavailable(_, let retryAfter): retryAfter
        case .throttled(_, let retryAfter): retryAfter
        case .succeeded, .failed, .unable, .discarded, .snoozed, .released: nil
        }
    }
}
