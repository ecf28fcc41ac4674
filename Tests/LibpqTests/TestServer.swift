import Foundation
import Libpq
import Logging
import Testing

/// The server that the tests use, from the environment.
enum TestServer {
    static let conninfo = ProcessInfo.processInfo.environment["BREAKWATER_TEST_DATABASE"]
    private static let pooler = ProcessInfo.processInfo.environment["BREAKWATER_TEST_POOLER"]
    static let isThere = conninfo != nil
    static let reason: Comment = "BREAKWATER_TEST_DATABASE is not set to the conninfo URL of a private superuser"

    /// Connects through the pooler, if there is one.
    static var options: ConnectionOptions {
        ConnectionOptions(pooler ?? conninfo ?? "", applicationName: "libpq-tests")
    }

    /// Connects directly, for tests of the session itself: its settings, its process, its cancelling, its end.
    static var direct: ConnectionOptions {
        ConnectionOptions(conninfo ?? "", applicationName: "libpq-tests")
    }

    /// A logger that drops all messages.
    static let silent = Logger(label: "tests") { _ in SwiftLogNoOpLogHandler() }
}

/// Runs `body` with a connection of its own, and closes it.
func withConnection<Value: Sendable>(
    _ options: ConnectionOptions = TestServer.options,
    logger: Logger = TestServer.silent,
    _ body: (Connection) async throws -> Value
) async throws -> Value {
    let connection = try await Connection.connect(options, logger: logger)
    do {
        let value = try await body(connection)
        await connection.close()
        return value
    } catch {
        await connection.close()
        throw error
    }
}

/// Runs `body`, which must throw a `PostgresError`, and returns that error.
func failure(
    _ body: () async throws -> Void,
    sourceLocation: SourceLocation = #_sourceLocation
) async throws -> PostgresError {
    try await #require(throws: PostgresError.self, sourceLocation: sourceLocation) { try await body() }
}

/// Polls `condition` until it holds. Records an issue if it does not hold within `limit`.
func eventually(
    within limit: Duration = .seconds(240),
    sourceLocation: SourceLocation = #_sourceLocation,
    _ condition: () async throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + limit
    while try await !condition() {
        if ContinuousClock.now > deadline {
            Issue.record("the condition did not come true within \(limit)", sourceLocation: sourceLocation)
            return
        }
        try await Task.sleep(for: .milliseconds(5))
    }
}
