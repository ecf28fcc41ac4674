public import Libpq
public import Logging
public import ServiceLifecycle
import Synchronization

/// Enqueues jobs and manages them, through a small pool of connections.
///
/// ```swift
/// let client = try BreakwaterClient("postgresql:///app", logger: logger)
/// let id = try await client.enqueue(.sendEmail, SendEmail.Payload(to: "ada@example.org"))
///
/// try await client.withTransaction { transaction in
///     _ = try await transaction.query("insert into customer (name) values ($1)", [.text("Ada")])
///     try await transaction.enqueue(.sendEmail, SendEmail.Payload(to: "ada@example.org"))
/// }
/// ```
///
/// What it can do is listed at ``JobDatabase``. Connections are made when they are needed and kept; a lost one is
/// replaced by the next call. When all are in use, calls wait for one in their order.
///
/// As a service in a `ServiceGroup`, it closes its connections at a graceful shutdown. Elsewhere, call ``close()``.
public final class BreakwaterClient: JobDatabase, Service {
    private struct State {
        var idle: [Connection] = []
        var isClosed = false
    }

    private let options: ConnectionOptions
    private let logger: Logger
    private let places: SessionPlaces
    private let state = Mutex(State())

    /// How many connections a client may have.
    public static let connectionLimits = 1...100

    /// Makes a client. It connects at the first call.
    ///
    /// - Parameters:
    ///   - options: The database.
    ///   - connections: The most connections at a time, 1 to 100. Defaults to 4.
    ///   - logger: The logger for the server's notices.
    /// - Throws: ``BreakwaterError`` with the code ``BreakwaterError/Code/invalidConfiguration``, if a value is not
    ///   allowed or the options cannot be read.
    public init(_ options: ConnectionOptions, connections: Int = 4, logger: Logger) throws {
        guard Self.connectionLimits.contains(connections) else {
            throw BreakwaterError(
                .invalidConfiguration,
                "connections is \(connections); it must be \(Self.connectionLimits.lowerBound) to "
                    + "\(Self.connectionLimits.upperBound)"
            )
        }
        do {
            try options.check()
        } catch {
            throw BreakwaterError(.invalidConfiguration, error.message)
        }
        self.options = options
        self.logger = logger
        places = SessionPlaces(count: connections)
    }

    /// Makes a client. It connects at the first call.
    ///
    /// - Parameters:
    ///   - conninfo: The database: a `postgresql://` URL or `keyword=value` pairs. What it leaves out comes from libpq's
    ///     environment variables.
    ///   - connections: The most connections at a time, 1 to 100. Defaults to 4.
    ///   - logger: The logger for the server's notices.
    /// - Throws: ``BreakwaterError`` with the code ``BreakwaterError/Code/invalidConfiguration``.
    public convenience init(_ conninfo: String, connections: Int = 4, logger: Logger) throws {
        try self.init(
            ConnectionOptions(conninfo, applicationName: "breakwater client"),
            connections: connections,
            logger: logger
        )
    }

    // MARK: Calls

    /// Runs a statement on one of the connections, in a transaction of its own.
    ///
    /// - Parameter statement: The statement.
    /// - Throws: `PostgresError`; `CancellationError`; ``BreakwaterError`` after ``close()``.
    public func texts(of statement: TextStatement) async throws -> [String?] {
        try await withConnection { try await $0.texts(of: statement) }
    }

    /// Runs a transaction on a connection that nothing else uses meanwhile.
    ///
    /// It is committed when `body` returns, and rolled back when `body` throws or the task is cancelled.
    ///
    /// - Parameter body: The transaction's statements. It must not begin or end a transaction itself.
    /// - Returns: What `body` returns, after the commit.
    /// - Throws: What `body` throws; `PostgresError`. A lost connection at the commit leaves open whether it was
    ///   committed.
    @discardableResult
    public func withTransaction<Value: Sendable>(
        _ body: (_ transaction: Connection) async throws -> Value
    ) async throws -> Value {
        try await withConnection { connection in
            _ = try await connection.query("begin")
            do {
                let value = try await body(connection)
                // COMMIT of a failed transaction answers ROLLBACK and is no error. The statement before it is.
                _ = try await connection.pipeline([Statement("select"), Statement("commit")])
                return value
            } catch {
                do {
                    _ = try await connection.query("rollback")
                } catch {
                    // A cancelled task cannot send anything more. The server rolls back when the session ends.
                    await connection.close()
                }
                throw error
            }
        }
    }

    /// Calls `body` with a connection that nothing else uses meanwhile.
    private func withConnection<Value: Sendable>(
        _ body: (Connection) async throws -> Value
    ) async throws -> Value {
        try await places.take()
        defer { places.leave() }
        let connection = try await connection()
        do {
            let value = try await body(connection)
            await giveBack(connection)
            return value
        } catch {
            await giveBack(connection)
            throw error
        }
    }

    private func connection() async throws -> Connection {
        let idle = try state.withLock { state -> Connection? in
            if state.isClosed { throw BreakwaterError(.closed, "the client is closed") }
            state.idle.removeAll { $0.isClosed }
            return state.idle.popLast()
        }
        return if let idle { idle } else { try await Connection.connect(options, logger: logger) }
    }

    private func giveBack(_ connection: Connection) async {
        let isKept = state.withLock { state in
            if state.isClosed { return false }
            state.idle.append(connection)
            return true
        }
        if !isKept { await connection.close() }
    }

    // MARK: Ending

    /// Waits for a graceful shutdown or its cancellation, then closes the client.
    public func run() async {
        // Both ends of the wait mean the same here.
        try? await gracefulShutdown()
        await close()
    }

    /// Closes the connections. Calls that are being answered are answered first; further calls throw
    /// ``BreakwaterError`` with the code ``BreakwaterError/Code/closed``.
    public func close() async {
        let idle = state.withLock { state in
            state.isClosed = true
            defer { state.idle = [] }
            return state.idle
        }
        for connection in idle { await connection.close() }
    }
}
