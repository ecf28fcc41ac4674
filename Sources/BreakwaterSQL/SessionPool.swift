import Breakwater
import Libpq
import Logging

/// The sessions of one plugin. They are made when they are needed, and kept.
actor SessionPool {
    nonisolated let function: String
    nonisolated let role: String
    nonisolated let limit: Int
    /// The database that the configuration names for the plugin.
    private let given: ConnectionOptions?
    private var options: ConnectionOptions?
    private var identity: SQLSession.Identity?
    private var logger = Logger(label: "breakwater.sql") { _ in SwiftLogNoOpLogHandler() }
    private var idle: [SQLSession] = []
    /// How many sessions are in use or being made.
    private var taken = 0
    private var isClosed = false
    private var lastWaiter = 0
    /// Those who wait for a session, the first one first.
    private var waiters: [(id: Int, continuation: CheckedContinuation<Void, any Error>)] = []

    /// How long the server may take to end a session whose connection is lost.
    private static let terminationChecks = 50

    init(function: String, role: String, database: ConnectionOptions?, limit: Int) {
        self.function = function
        self.role = role
        self.limit = limit
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
        try await waitForPlace()
        while let session = idle.popLast() {
            if !session.connection.isClosed { return session }
        }
        do {
            return try await open()
        } catch {
            leavePlace()
            throw error
        }
    }

    private func waitForPlace() async throws {
        try Task.checkCancellation()
        if taken < limit {
            taken += 1
            return
        }
        lastWaiter += 1
        let id = lastWaiter
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
                if Task.isCancelled {
                    continuation.resume(throwing: CancellationError())
                } else {
                    waiters.append((id, continuation))
                }
            }
        } onCancel: {
            // The task is unstructured, because a cancellation handler cannot wait for the actor. It ends at once.
            Task { await self.cancel(id) }
        }
    }

    private func cancel(_ id: Int) {
        guard let place = waiters.firstIndex(where: { $0.id == id }) else { return }
        waiters.remove(at: place).continuation.resume(throwing: CancellationError())
    }

    /// Gives a place to the next that waits.
    private func leavePlace() {
        if waiters.isEmpty { taken -= 1 } else { waiters.removeFirst().continuation.resume() }
    }

    // MARK: Giving back

    /// Gives a session back. A session whose end is unknown is ended on the server first, because its transaction would
    /// keep the row of the job locked.
    func give(back session: SQLSession, after end: SQLSession.CallEnd) async {
        if !isClosed, session.isUsable {
            idle.append(session)
        } else {
            let isLost = session.connection.isClosed
            await session.connection.close()
            if isLost { await Task { await terminate(session.backend) }.value }
        }
        leavePlace()
    }

    /// Ends a session on the server and waits until it has ended, as far as the server can be reached.
    private func terminate(_ backend: SQLSession.Backend) async {
        guard var options else { return }
        options.connectTimeout = .seconds(5)
        do {
            let connection = try await Connection.connect(options, logger: logger)
            defer { Task { await connection.close() } }
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
        } catch {
            logger.debug("a lost session cannot be ended", metadata: ["error": "\(error)"])
        }
    }

    /// Closes the idle sessions; those in use are closed when they are given back.
    func close() async {
        isClosed = true
        let sessions = idle
        idle = []
        for session in sessions { await session.connection.close() }
    }
}
