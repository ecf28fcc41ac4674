public import Logging

/// A session on a Postgres server.
///
/// Calls may be made from any task, many at a time. They are sent at once and answered in order, and each is a separate
/// transaction unless `BEGIN` was sent. Every call has a deadline. A call that is cancelled, or whose deadline passes,
/// is cancelled on the server in a way that can never affect a later call. If that is impossible, as behind a pooler,
/// the connection is closed. A call ends a few seconds after its deadline at the latest, even if the server does not
/// react to the cancel.
///
/// A connection owns one thread, which polls its socket. It ends with ``close()``, with the session, or when the last
/// reference to it is dropped.
public actor Connection {
    /// The thread of the connection.
    public nonisolated var unownedExecutor: UnownedSerialExecutor { wire.unownedExecutor }

    /// The notifications on the channels of ``listen(_:)``, for one consumer. The stream finishes when the connection
    /// ends. While no task reads it, the newest 1,024 are kept.
    public nonisolated let notifications: AsyncStream<Notification>
    /// The process ID of the session's server process.
    public nonisolated let backendPID: Int32
    /// Whether a pooler is between this process and the server. In that case the next transaction may be on another
    /// session without this one's settings, and ``listen(_:)`` receives nothing. Poolers that keep a session for each
    /// client count as well.
    public nonisolated let isPooled: Bool
    /// The server's version, as in `server_version_num`: 150004 is 15.4.
    public nonisolated let serverVersion: Int

    private nonisolated let wire: Wire

    private init(_ wire: Wire, _ opened: Wire.Opened) {
        self.wire = wire
        notifications = wire.notifications
        backendPID = opened.backendPID
        serverVersion = opened.serverVersion
        isPooled = opened.isPooled
    }

    deinit {
        wire.loop.post { $0.close(PostgresError(.connectionLost, "the connection was dropped")) }
    }

    /// Connects to the first server of `options` that accepts the connection.
    ///
    /// The server's notices go to `logger`: warnings as warnings, notices and the like as info, the rest as debug. This
    /// also makes the first query, which shows whether a pooler is in between. Throws
    /// ``PostgresError/Code/connectionFailed`` after ``ConnectionOptions/connectTimeout`` at the latest (unless a
    /// resolver of host names blocks), or ``PostgresError/Code/cancelled``.
    ///
    /// - Parameters:
    ///   - options: The options of the connection.
    ///   - logger: The logger.
    ///   - onNotice: Receives each notice first, on the connection's thread. Returns true to keep it out of the log.
    ///     Defaults to none.
    public static func connect(
        _ options: ConnectionOptions,
        logger: Logger,
        onNotice: (@Sendable (PostgresError) -> Bool)? = nil
    ) async throws(PostgresError) -> Connection {
        let loop = try EventLoop()
        let wire = Wire(loop: loop, logger: logger, onNotice: onNotice)
        try loop.start(wire)
        return Connection(wire, try await wire.open(options))
    }

    /// Whether the connection has ended; a call on it throws ``PostgresError/Code/connectionLost``.
    public nonisolated var isClosed: Bool { wire.end.reason != nil }

    /// Waits until the connection has ended, and returns the reason. If the waiting task is cancelled first, returns an
    /// error with the code ``PostgresError/Code/cancelled``.
    public nonisolated func waitUntilClosed() async -> PostgresError {
        await wire.end.wait()
    }

    /// Ends the connection. Calls that wait for an answer throw ``PostgresError/Code/connectionLost``, and the server
    /// is asked to cancel them.
    public func close() async {
        await wire.close(PostgresError(.connectionLost, "the connection was closed"))
    }

    /// Runs one statement and returns its rows.
    ///
    /// - Parameters:
    ///   - sql: one statement, with `$1`, `$2`, … for the parameters.
    ///   - parameters: their values, in order.
    ///   - timeout: how long to wait for the answer. Defaults to 30 seconds.
    public func query(
        _ sql: String,
        _ parameters: [Parameter] = [],
        timeout: Duration = .seconds(30)
    ) async throws(PostgresError) -> QueryResult {
        try await pipeline([Statement(sql, parameters)], timeout: timeout)[0]
    }

    /// Runs statements in one round trip and, unless a transaction is open, in one transaction.
    ///
    /// - Returns: one result a statement, in order.
    /// - Throws: the error of the first statement that failed, with its index in ``PostgresError/statement``.
    public func pipeline(
        _ statements: [Statement],
        timeout: Duration = .seconds(30)
    ) async throws(PostgresError) -> [QueryResult] {
        for (index, statement) in statements.enumerated() { try statement.validate(index: index) }
        return try await wire.run(.pipeline(statements), timeout: timeout)
    }

    /// Sends statements as ``pipeline(_:timeout:)`` does, and returns without waiting for their answer. Other calls can
    /// be made meanwhile, which the server runs right after these statements.
    ///
    /// - Parameters:
    ///   - statements: The statements to run in one transaction.
    ///   - timeout: How long to wait for the answer. Defaults to 30 seconds.
    ///   - resultsFirst: Whether the server is to send the results before it commits, which needs one more message.
    /// - Throws: An error if a statement is invalid, in which case none is sent. Other errors are part of the answer.
    package func send(
        _ statements: [Statement],
        timeout: Duration = .seconds(30),
        resultsFirst: Bool
    ) throws(PostgresError) -> Answer {
        for (index, statement) in statements.enumerated() { try statement.validate(index: index) }
        // The wire has the same executor, which is the connection's thread.
        return wire.assumeIsolated { $0.send(statements, timeout: timeout, resultsFirst: resultsFirst) }
    }

    /// Prepares `sql` as `name` for this session; run it with ``Statement/init(prepared:_:)``.
    ///
    /// The server infers the types of the parameters: write casts (`$1::int8`) that match the parameters to come.
    public func prepare(_ name: String, _ sql: String, timeout: Duration = .seconds(30)) async throws(PostgresError) {
        try Statement(name).validate(index: 0)
        try Statement(sql).validate(index: 0)
        _ = try await wire.run(.prepare(name: name, sql: sql), timeout: timeout)
    }

    /// Runs a script of many statements, for example a migration, in one transaction unless the script itself controls
    /// transactions. It waits until earlier calls are answered, and later calls wait for it.
    public func script(_ sql: String, timeout: Duration = .seconds(30)) async throws(PostgresError) {
        try Statement(sql).validate(index: 0)
        _ = try await wire.run(.script(sql), timeout: timeout)
    }

    /// Makes notifications on `channel` arrive in ``notifications``. The name is case-sensitive.
    public func listen(_ channel: String) async throws(PostgresError) {
        guard (1...Self.maximumChannelBytes).contains(channel.utf8.count) else {
            throw PostgresError(
                .invalidParameter,
                "a channel's name has 1 to \(Self.maximumChannelBytes) bytes, and \"\(channel)\" has "
                    + "\(channel.utf8.count)"
            )
        }
        let quoted = channel.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"")
        _ = try await query("LISTEN \"\(quoted)\"")
    }

    /// `NAMEDATALEN` without its NUL. The server would truncate a longer name in LISTEN and refuse it in NOTIFY.
    private static let maximumChannelBytes = 63
}
