import Breakwater
import Foundation
public import Libpq
import Logging

/// A separate database for one test, which is migrated before and dropped after it.
///
/// The server is the one that the environment variable `BREAKWATER_TEST_DATABASE` names: a connection URL whose user
/// may create databases. `scripts/test` starts a private server and sets it. If `BREAKWATER_TEST_POOLER` names a pooler
/// in front of that server, all connections go through it, except those that are called direct.
public struct TestDatabase: Sendable {
    /// Whether there is a server to test against.
    public static var isAvailable: Bool { serverURL != nil }

    /// The most tests with a database that run at once in one process: enough to keep the server busy, and few enough
    /// that each gets a fair share.
    public static let mostAtOnce = 8

    static let gate = TestGate(limit: mostAtOnce)

    static var serverURL: String? { variable("BREAKWATER_TEST_DATABASE") }
    static var poolerURL: String? { variable("BREAKWATER_TEST_POOLER") }

    private static func variable(_ name: String) -> String? {
        ProcessInfo.processInfo.environment[name].flatMap { $0.isEmpty ? nil : $0 }
    }

    /// Whether the tests connect through a pooler, which may run each transaction on another session.
    public static var isPooled: Bool { poolerURL != nil }

    /// The database's name.
    public var name: String
    /// A connection URL of the database, as the server's test user.
    public var url: String
    /// The URL without the pooler, if there is one.
    public var directURL: String
    /// A connection as the server's test user.
    public var connection: Connection

    /// The connection options of the database, for a ``WorkerConfiguration``.
    public var options: ConnectionOptions { ConnectionOptions(url) }

    /// Opens another session on the database, which the caller closes. It ends with the database at the latest.
    ///
    /// - Parameter user: The user of the session. Defaults to the server's test user.
    /// - Returns: The connection.
    /// - Throws: `PostgresError`.
    public func connect(as user: String? = nil) async throws -> Connection {
        try await Connection.connect(options(for: user), logger: testLogger)
    }

    /// Opens another session on the database without the pooler. It is for tests of sessions: of settings and temporary
    /// tables that outlive a transaction, or of the backend process of the connection.
    ///
    /// - Returns: The connection, which the caller closes.
    /// - Throws: `PostgresError`.
    public func connectDirectly() async throws -> Connection {
        try await Connection.connect(
            ConnectionOptions(directURL, applicationName: directSession),
            logger: testLogger
        )
    }

    /// The same database with a direct ``connection``, for a test that terminates sessions, because a pooler might give
    /// the test one of these sessions.
    ///
    /// - Returns: The database. Its connection ends with the database.
    /// - Throws: `PostgresError`.
    public func watchedDirectly() async throws -> TestDatabase {
        var copy = self
        copy.connection = try await connectDirectly()
        return copy
    }

    /// The connection options of the database for a certain user, for a ``WorkerConfiguration``.
    ///
    /// - Parameter user: The user; nil for the server's test user.
    /// - Returns: The options.
    public func options(for user: String?) -> ConnectionOptions {
        ConnectionOptions(url, keywords: user.map { ["user": $0] } ?? [:])
    }

    /// Runs a query on ``connection`` and returns its result.
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

    /// The single number that a query returns, such as a count.
    ///
    /// - Parameters:
    ///   - sql: One statement with one row of one column.
    ///   - parameters: Its parameters.
    /// - Returns: The number.
    /// - Throws: `PostgresError`; ``BreakwaterTestingError`` when there is no row.
    public func number(_ sql: String, _ parameters: [Parameter] = []) async throws -> Int {
        guard let row = try await query(sql, parameters).first else {
            throw BreakwaterTestingError("no row came of: \(sql)")
        }
        return try row[0].int()
    }

    /// The single text that a query returns.
    ///
    /// - Parameters:
    ///   - sql: One statement with one row of one column.
    ///   - parameters: Its parameters.
    /// - Returns: The text; empty for NULL, and when there is no row.
    /// - Throws: `PostgresError`.
    public func text(_ sql: String, _ parameters: [Parameter] = []) async throws -> String {
        try await query(sql, parameters).first?[0].stringOrNil() ?? ""
    }

    /// The first column of a query's rows.
    ///
    /// - Parameters:
    ///   - sql: One statement with one column of texts.
    ///   - parameters: Its parameters.
    /// - Returns: The texts.
    /// - Throws: `PostgresError`.
    public func texts(_ sql: String, _ parameters: [Parameter] = []) async throws -> [String] {
        try await query(sql, parameters).map { try $0[0].string() }
    }

    /// The first column of a query's rows.
    ///
    /// - Parameters:
    ///   - sql: One statement with one column of numbers.
    ///   - parameters: Its parameters.
    /// - Returns: The numbers.
    /// - Throws: `PostgresError`.
    public func numbers(_ sql: String, _ parameters: [Parameter] = []) async throws -> [Int64] {
        try await query(sql, parameters).map { try $0[0].int64() }
    }
}

/// Runs a test with a separate database.
///
/// At most ``TestDatabase/mostAtOnce`` of these tests run at once in a process. The others wait.
///
/// - Parameters:
///   - isMigrated: Whether the database has Breakwater's schema. Defaults to true.
///   - body: The test.
/// - Returns: The test's result.
/// - Throws: The test's error; `PostgresError` when the server does not answer.
public func withTestDatabase<Result>(
    isMigrated: Bool = true,
    _ body: (TestDatabase) async throws -> Result
) async throws -> Result {
    guard let serverURL = TestDatabase.serverURL else {
        throw BreakwaterTestingError(
            "BREAKWATER_TEST_DATABASE is not set: run scripts/test, which starts a server and sets it"
        )
    }
    await TestDatabase.gate.enter()
    defer { TestDatabase.gate.leave() }
    let server = try await Connection.connect(ConnectionOptions(serverURL), logger: testLogger)
    let name = "test_\(UUID().uuidString.lowercased().replacing("-", with: ""))"
    let template = isMigrated ? try await TemplateDatabase.shared.ready(on: serverURL) : "template1"
    try await server.script("create database \(name) template \(template) strategy file_copy", timeout: .seconds(120))
    let directURL = urlOfDatabase(name, on: serverURL)
    let url = TestDatabase.poolerURL.map { urlOfDatabase(name, on: $0) } ?? directURL
    do {
        let connection = try await Connection.connect(ConnectionOptions(url), logger: testLogger)
        let database = TestDatabase(name: name, url: url, directURL: directURL, connection: connection)
        let result: Result
        do {
            result = try await body(database)
        } catch let error as BreakwaterTestingError {
            throw await error.adding(summaryOf: database)
        }
        await connection.close()
        try await drop(name, on: server)
        await server.close()
        return result
    } catch {
        try? await drop(name, on: server)
        await server.close()
        throw error
    }
}

private func drop(_ name: String, on server: Connection) async throws {
    if TestDatabase.isPooled {
        // A pooler soon closes its idle sessions. They are not terminated before, because pgbouncer 1.18 crashes if a
        // session is terminated just after a cancel was sent to it.
        let sessions = "select exists (select from pg_stat_activity where datname = $1 and application_name <> $2)"
        try? await waitUntil("the pooler lets go") {
            try await !server.query(sessions, [.text(name), .text(directSession)])[0][0].bool()
        }
    }
    try await server.script("drop database \(name) with (force)", timeout: .seconds(120))
}

/// The application name of sessions of ``TestDatabase/connectDirectly()``.
private let directSession = "test, directly"

func urlOfDatabase(_ name: String, on server: String) -> String {
    guard var components = URLComponents(string: server) else { return server }
    components.path = "/\(name)"
    return components.string ?? server
}

/// The error of a test that cannot continue.
public struct BreakwaterTestingError: Error, CustomStringConvertible {
    /// The reason.
    public var description: String

    init(_ description: String) { self.description = description }

    /// The same error, with what was in the database when it happened.
    func adding(summaryOf database: TestDatabase) async -> Self {
        // The test's own connection may be in the middle of something.
        guard let connection = try? await database.connectDirectly() else { return self }
        let summary = try? await connection.query(
            """
            (select format('job %s of %s is %s: %s', s.id, s.kind, s.state, s.why) from breakwater.job_status s limit 5)
            union all
            (select format('%s dead letters of %s: %s', count(*), d.kind, d.reason) from breakwater.dead_letter d
              group by d.kind, d.reason limit 5)
            union all
            (select format('the circuit of %s is %s: %s', breakwater.circuit_name(c.kind, c.key), c.state, c.reason)
               from breakwater.circuit c where c.state <> 'closed' limit 5)
            union all
            (select format('worker %s is %s, and was heard %s ago', w.name, w.state, now() - w.beat_at)
               from breakwater.worker w limit 5)
            """
        )
        await connection.close()
        // A test may have a database without the schema.
        guard let summary else { return self }
        let lines = summary.compactMap { try? $0[0].string() }
        return Self(description + "\n  " + (lines.isEmpty ? "no jobs, no workers" : lines.joined(separator: "\n  ")))
    }
}

/// Waits until a condition holds, which is checked every 20 ms.
///
/// - Parameters:
///   - what: A description of the condition, for the error's message.
///   - deadline: The longest wait, which is generous for slow machines. Defaults to 240 seconds.
///   - condition: The condition, which is checked repeatedly.
/// - Throws: ``BreakwaterTestingError`` when the deadline passes first; the condition's error.
public func waitUntil(
    _ what: String,
    deadline: Duration = .seconds(240),
    _ condition: () async throws -> Bool
) async throws {
    let end = ContinuousClock.now + deadline
    while try await !condition() {
        guard .now < end else { throw BreakwaterTestingError("waited \(deadline) for what did not happen: \(what)") }
        try await Task.sleep(for: .milliseconds(20))
    }
}

/// Waits until the task is cancelled, as a handler does that works until then.
///
/// - Throws: `CancellationError`, always.
public func untilCancelled() async throws -> Never {
    // The stream has no element. Its iteration ends with the task's cancellation.
    let (stream, continuation) = AsyncStream.makeStream(of: Never.self)
    for await _ in stream {}
    continuation.finish()
    throw CancellationError()
}
