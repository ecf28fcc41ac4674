import Breakwater
import Libpq
import Logging

/// The sessions of one plugin. They are made when they are needed, and kept.
actor SessionPool {
    nonisolated let function: String
    nonisolated let role: String
    /// One place for each session that may be in use or being made.
    nonisolated let places: SessionPlaces
    /// The database that the configuration names for the plugin.
    private let given: ConnectionOptions?
    private var options: ConnectionOptions?
    private var identity: SQLSession.Identity?
    private var logger = Logger(label: "breakwater.sql") { _ in SwiftLogNoOpLogHandler() }
    private var idle: [SQLSession] = []
    private var isClosed = false

    /// How long the server may take to end a session whose connection is lost.
    private static let terminationChecks = 50

    init(function: String, role: String, database: ConnectionOptions?, limit: Int) {
        self.function = function
        self.role = role
        places = SessionPlaces(count: limit)
        given = database
    }

    /// Records what sessions need, and makes the first one.
    func prepare(worker: Connection, database: ConnectionOptions, logger: Logger) async throws {
        var options = given ?? database
        options.applicationName = "breakwater sql"
        self.options = options
        self.logger = logger
        isClosed = false
        identity = try await SQLSession.Identity(of: worker)
        do {
            idle.append(try await open())
        } catch let error as PostgresError where given != nil && error.code == .connectionFailed {
            logger.warning(
                "the database for the calls of a function cannot be reached now",
                metadata: ["function": "\(function)", "error": "\(error)"]
            )
        }
    }

    private func open() async throws -> SQLSession {
        guard let options, let identity else {
            throw PostgresError(.connectionFailed, "no worker has prepared the handler")
        }
        return try await SQLSession(options, function: function, role: role, identity: identity, logger: logger)
    }

    // MARK: Taking

    /// Takes a session, or waits for one.
    ///
    /// - Throws: `CancellationError`, `PostgresError`, ``BreakwaterError``.
    func take() async throws -> SQLSession {
        try await places.take()
        while let session = idle.popLast() {
            if !session.connection.isClosed { return session }
        }
        do {
            return try await open()
        } catch {
            places.leave()
            throw error
        }
    }

    // MARK: Giving back

    /// Gives a session back. A session whose end is unknown is ended on the server first, because its transaction would
    /// keep the row of the job locked.
    ///
    /// This must not run in a task that can be cancelled.
    func give(back session: SQLSession) async {
        if !isClosed, session.isUsable {
            idle.append(session)
        } else {
            let isLost = session.connection.isClosed
            await session.connection.close()
            if isLost { await terminate(session.backend) }
        }
        places.leave()
    }

    /// Ends a session on the server and waits until it has ended, as far as the server can be reached.
    private func terminate(_ backend: SQLSession.Backend) async {
        guard var options else { return }
        options.connectTimeout = .seconds(5)
        do {
            let connection = try await Connection.connect(options, logger: logger)
            do {
                try await terminate(backend, on: connection)
            } catch {
                await connection.close()
                throw error
            }
            await connection.close()
        } catch {
            logger.debug("a lost session cannot be ended", metadata: ["error": "\(error)"])
        }
    }

    private func terminate(_ backend: SQLSession.Backend, on connection: Connection) async throws {
        for _ in 0..<Self.terminationChecks {
            let isThere =
                try await connection.query(
                    """
                    select pg_catalog.pg_terminate_backend(a.pid) from pg_catalog.pg_stat_activity a \
                    where a.pid = $1 and (extract(epoch from a.backend_start) * 1000000)::int8 = $2
                    """,
                    [.int4(backend.pid), .int8(backend.start)],
                    timeout: .seconds(5)
                ).count > 0
            if !isThere { return }
            try await Task.sleep(for: .milliseconds(100))
        }
        logger.warning("a lost session does not end", metadata: ["pid": .stringConvertible(backend.pid)])
    }

    /// Closes the idle sessions; those in use are closed when they are given back.
    func close() async {
        isClosed = true
        let sessions = idle
        idle = []
        for session in sessions { await session.connection.close() }
    }
}
