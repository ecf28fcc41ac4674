import Breakwater
import Foundation
public import Libpq
import Logging

/// A database of its own for one test, migrated, and dropped afterwards.
///
/// The server is the one that the environment variable `BREAKWATER_TEST_DATABASE` names: a connection URL whose user may
/// create databases. `scripts/test` starts a private server and sets it.
public struct TestDatabase: Sendable {
    /// Whether there is a server to test against.
    public static var isAvailable: Bool { serverURL != nil }

    static var serverURL: String? { ProcessInfo.processInfo.environment["BREAKWATER_TEST_DATABASE"] }

    /// The database's name.
    public var name: String
    /// A connection URL of the database, as the server's test user.
    public var url: String
    /// A connection as the server's test user.
    public var connection: Connection

    /// Where the database is, for a ``WorkerConfiguration``.
    public var options: ConnectionOptions { ConnectionOptions(url) }

    /// Makes a query on ``connection`` and returns its result.
    ///
    /// - Parameters:
    ///   - sql: One statement.
    ///   - parameters: Its parameters.
    /// - Returns: The result.
    /// - Throws: `PostgresError`.
    @discardableResult
    public func query(_ sql: String, _ parameters: [Parameter] = []) async throws -> QueryResult {
        try await connection.query(sql, parameters)
    }

    /// The single number that a query answers with, such as a count.
    ///
    /// - Parameters:
    ///   - sql: One statement with one row of one column.
    ///   - parameters: Its parameters.
    /// - Returns: The number.
    /// - Throws: `PostgresError`.
    public func number(_ sql: String, _ parameters: [Parameter] = []) async throws -> Int {
        try await query(sql, parameters)[0][0].int()
    }
}

/// Runs a test with a database of its own.
///
/// - Parameters:
///   - isMigrated: Whether it has Breakwater's schema. Defaults to true.
///   - body: The test.
/// - Returns: What the test returns.
/// - Throws: What the test throws; `PostgresError` when the server does not answer.
public func withTestDatabase<Result>(
    isMigrated: Bool = true,
    _ body: (TestDatabase) async throws -> Result
) async throws -> Result {
    guard let serverURL = TestDatabase.serverURL else {
        throw BreakwaterTestingError(
            "BREAKWATER_TEST_DATABASE is not set: run scripts/test, which starts a server and sets it"
        )
    }
    let logger = Logger(label: "breakwater.testing") { _ in SwiftLogNoOpLogHandler() }
    let server = try await Connection.connect(ConnectionOptions(serverURL), logger: logger)
    let name = "test_\(UUID().uuidString.lowercased().replacing("-", with: ""))"
    try await server.script("create database \(name)", timeout: .seconds(120))
    let url = urlOfDatabase(name, on: serverURL)
    do {
        let connection = try await Connection.connect(ConnectionOptions(url), logger: logger)
        if isMigrated { _ = try await Schema.migrate(on: connection) }
        let result = try await body(TestDatabase(name: name, url: url, connection: connection))
        await connection.close()
        try await server.script("drop database \(name) with (force)", timeout: .seconds(120))
        await server.close()
        return result
    } catch {
        try? await server.script("drop database \(name) with (force)", timeout: .seconds(120))
        await server.close()
        throw error
    }
}

private func urlOfDatabase(_ name: String, on server: String) -> String {
    guard var components = URLComponents(string: server) else { return server }
    components.path = "/\(name)"
    return components.string ?? server
}

/// A test that cannot go on.
public struct BreakwaterTestingError: Error, CustomStringConvertible {
    /// Why.
    public var description: String

    init(_ description: String) { self.description = description }
}

/// Waits until a condition holds, asking again every 20 ms.
///
/// - Parameters:
///   - what: What is waited for, for the error's message.
///   - deadline: How long to wait at most, generous for slow machines. Defaults to 30 seconds.
///   - condition: Asked again and again.
/// - Throws: ``BreakwaterTestingError`` when the deadline passes first; what the condition throws.
public func waitUntil(
    _ what: String,
    deadline: Duration = .seconds(30),
    _ condition: () async throws -> Bool
) async throws {
    let end = ContinuousClock.now + deadline
    while try await !condition() {
        guard .now < end else { throw BreakwaterTestingError("waited \(deadline) in vain: \(what)") }
        try await Task.sleep(for: .milliseconds(20))
    }
}
