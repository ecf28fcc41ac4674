import Breakwater
import Libpq
import Logging
import Synchronization

/// A session in which the function of a plugin is called.
struct SQLSession: Sendable {
    /// The SQLSTATE of `breakwater.prepare_sql_handler` that says why the function cannot be called.
    static let refusal = "BW006"
    /// How long each step but the call itself may take. A transaction whose worker is silent for this long is ended by
    /// the server.
    private static let stepTimeout = Duration.seconds(10)

    /// How a call ended.
    enum CallEnd: Sendable {
        /// The transaction is committed.
        case committed(result: String?)
        /// The worker did not hold the job any more, so the transaction was rolled back.
        case notHeld
        /// The session was lost while the transaction was being settled or committed.
        case unknown
        /// The call was cancelled, or the server ended the session for reasons outside the call.
        case interrupted
        /// The function has replaced the function that calls it. Everything was rolled back.
        case replaced
        /// The call failed, and everything was rolled back.
        case failed(PostgresError)
    }

    /// The backend process of a session, which tells it apart from a later one with the same process id.
    struct Backend: Sendable {
        var pid: Int32
        /// When it started, in microseconds.
        var start: Int64
    }

    let connection: Connection
    let backend: Backend
    /// `pg_temp.breakwater_call`, and the version of its row.
    private let wrapper: (oid: Int64, version: String)
    /// Whether the server has said that it ends the session for everybody, or because another one crashed.
    private let shutdown: Shutdown
    /// How many calls the session has made.
    private let calls = Calls()

    private final class Shutdown: Sendable {
        let isSeen = Atomic(false)
    }

    private final class Calls: Sendable {
        let count = Atomic(0)
    }

    /// What tells one database from another.
    struct Identity: Equatable, Sendable {
        private var text: String

        init(of connection: Connection) async throws(PostgresError) {
            text = try await connection.query(
                """
                select pg_catalog.concat_ws(' ', pg_catalog.current_database(), 'breakwater.job'::regclass::oid, \
                (select system_identifier from pg_catalog.pg_control_system()))
                """
            ).row(0)[0].string()
        }
    }

    /// Connects, and prepares the session for calls.
    ///
    /// - Throws: `PostgresError`, with the SQLSTATE ``refusal`` if the function cannot be called with the rights of the
    ///   role; ``BreakwaterError`` if the database is unsuitable.
    init(
        _ options: ConnectionOptions,
        function: String,
        role: String,
        identity: Identity,
        logger: Logger
    ) async throws {
        let shutdown = Shutdown()
        connection = try await Connection.connect(options, logger: logger) { notice in
            if ["57P01", "57P02", "57P03"].contains(notice.sqlState) {
                shutdown.isSeen.store(true, ordering: .relaxed)
            }
            return false
        }
        self.shutdown = shutdown
        do {
            guard !connection.isPooled else {
                throw BreakwaterError(
                    .unsuitableDatabase,
                    "a pooler is in front of the database; give sql.database without it, because calls need sessions"
                )
            }
            try await connection.useOwnSettings()
            guard try await Identity(of: connection) == identity else {
                throw BreakwaterError(
                    .invalidConfiguration,
                    "sql.database is another database than the worker's; a job can only be settled in its own"
                )
            }
            let row = try await connection.query(
                """
                select p.wrapper, p.version, (select (extract(epoch from a.backend_start) * 1000000)::int8 \
                from pg_catalog.pg_stat_activity a where a.pid = pg_catalog.pg_backend_pid()) \
                from breakwater.prepare_sql_handler($1, $2) p
                """,
                [.text(function), .text(role)]
            ).row(0)
            wrapper = (try row[0].int64(), try row[1].string())
            backend = Backend(pid: connection.backendPID, start: try row[2].int64())
        } catch {
            await connection.close()
            throw error
        }
    }

    /// How many calls a session may make. What a function can leave in its session, such as temporary tables and
    /// prepared statements, goes with it.
    private static let mostCalls = 1000

    /// Whether the session may be used again after a call that ended cleanly.
    var isUsable: Bool { !connection.isClosed && calls.count.load(ordering: .relaxed) < Self.mostCalls }

    // MARK: Calling

    /// What a function has returned, as JSON.
    struct Returned: Sendable {
        /// The beginning of the JSON text; nil for NULL.
        var bytes: [UInt8]?
        /// How long the whole text is.
        var size: Int

        var isCut: Bool { size > bytes?.count ?? 0 }
        /// The result to keep. If it was cut, it is a JSON string of what is left.
        var result: String? {
            isCut ? JobResult.json(from: bytes ?? [], isCut: true) : bytes.map { String(decoding: $0, as: UTF8.self) }
        }
    }

    /// Calls the function for a job, in a transaction that stays open until ``end(_:isCancelled:_:)``.
    ///
    /// - Parameters:
    ///   - description: The job as JSON.
    ///   - job: The job with its payload.
    ///   - context: The deadline.
    ///   - maxResultBytes: How many bytes of the result are returned.
    func call(
        _ description: String,
        _ job: Job,
        _ context: JobContext,
        maxResultBytes: Int
    ) async -> Result<Returned, PostgresError> {
        calls.count.add(1, ordering: .relaxed)
        do throws(PostgresError) {
            return .success(try await callFunction(description, job, context, maxResultBytes: maxResultBytes))
        } catch {
            return .failure(error)
        }
    }

    /// Settles the run and commits, or rolls back. This must not run in a task that can be cancelled.
    ///
    /// - Parameters:
    ///   - returned: What the call returned.
    ///   - isCancelled: Whether the run is cancelled.
    ///   - settlement: Settles the run.
    func end(
        _ returned: Result<Returned, PostgresError>,
        isCancelled: Bool,
        _ settlement: RunSettlement
    ) async -> CallEnd {
        switch returned {
        case .success(let returned): await finish(returned.result, settlement)
        case .failure(let error): await failed(error, isCancelled: isCancelled)
        }
    }

    private func callFunction(
        _ description: String,
        _ job: Job,
        _ context: JobContext,
        maxResultBytes: Int
    ) async throws(PostgresError) -> Returned {
        let remaining = context.remainingTime
        // The server ends a call a little before its deadline, so that this does not need a cancel request.
        let limit = max(.milliseconds(1), remaining - min(.milliseconds(250), remaining / 10))
        let results = try await connection.pipeline(
            [
                Statement("begin isolation level read committed, read write, not deferrable"),
                Self.localSettings(timeout: limit),
                // The result is returned as bytes, because the function may have changed the encoding of the client.
                Statement(
                    """
                    select pg_catalog.substr(r.json, 1, $3), pg_catalog.octet_length(r.json) from \
                    (select pg_catalog.convert_to(c::pg_catalog.text, 'UTF8') as json \
                    from pg_temp.breakwater_call($1, $2) c) r
                    """,
                    [.jsonb(job.payload), .jsonb(description), .int4(Int32(clamping: maxResultBytes))]
                ),
            ],
            timeout: remaining + .seconds(1)
        )
        let row = try results[2].row(0)
        return Returned(bytes: try row[0].bytesOrNil(), size: Int(try row[1].int32OrNil() ?? 0))
    }

    private static func localSettings(timeout: Duration) -> Statement {
        Statement(
            """
            select pg_catalog.set_config('statement_timeout', $1, true), \
            pg_catalog.set_config('idle_in_transaction_session_timeout', $2, true)
            """,
            [.text("\(timeout.wholeMilliseconds)"), .text("\(stepTimeout.wholeMilliseconds)")]
        )
    }

    /// Settles the run and commits.
    private func finish(_ result: String?, _ settlement: RunSettlement) async -> CallEnd {
        let settle = settlement.settle(result: result)
        let answer: Settle.Output
        do throws(PostgresError) {
            let results = try await connection.pipeline(
                [
                    // A cursor WITH HOLD would run its query at COMMIT, with the rights of the worker.
                    Statement("close all"),
                    // What the function has set must neither affect the settle nor outlast the call.
                    Statement("reset all"),
                    // Otherwise a type `pg_temp.text` of the function would hide that of Postgres, and the check of a
                    // domain would run with the rights of the worker.
                    Statement("select pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true)"),
                    connection.ownSettings(),
                    Self.localSettings(timeout: Self.stepTimeout),
                    Statement(
                        """
                        select exists (select from pg_catalog.pg_proc p where p.oid = $1::oid and p.xmin::text = $2), \
                        pg_catalog.pg_advisory_unlock_all()
                        """,
                        [.int8(wrapper.oid), .text(wrapper.version)]
                    ),
                    settle.statement,
                ],
                timeout: Self.stepTimeout
            )
            guard try results[5].row(0)[0].bool() else {
                // The session is not used again.
                await connection.close()
                return .replaced
            }
            answer = try settle.decode(results[6])
        } catch {
            return await notCommitted(error)
        }
        guard Settle.isHeld(answer) else { return await rollBack() ? .notHeld : .unknown }
        do throws(PostgresError) {
            _ = try await connection.pipeline([Statement("commit")], timeout: Self.stepTimeout)
        } catch {
            return await notCommitted(error)
        }
        settlement.committed()
        return .committed(result: result)
    }

    /// The end of a call whose settle or COMMIT was refused or has no answer.
    private func notCommitted(_ error: PostgresError) async -> CallEnd {
        let isRolledBack = await rollBack()
        return error.code == .server && isRolledBack ? .failed(error) : .unknown
    }

    /// The end of a call that failed while the function ran.
    private func failed(_ error: PostgresError, isCancelled: Bool) async -> CallEnd {
        // Without an answer the session is closed, which rolls back too.
        let isLost = await !rollBack()
        // A function can raise these SQLSTATEs itself. Only the server ends the session with them.
        let isShutdown =
            isLost && (shutdown.isSeen.load(ordering: .relaxed) || ["57P01", "57P02"].contains(error.sqlState))
        if error.code == .cancelled || (isCancelled && error.code != .server) || isShutdown { return .interrupted }
        // The run was cancelled, and so was its statement. The reason is known to the worker.
        if isCancelled, error.sqlState == "57014" { return .interrupted }
        return .failed(error)
    }

    /// Rolls back and ends what outlives a transaction. Returns false if the session was lost, and closes it.
    private func rollBack() async -> Bool {
        do throws(PostgresError) {
            _ = try await connection.pipeline(
                [Statement("rollback"), Statement("select pg_catalog.pg_advisory_unlock_all()")],
                timeout: Self.stepTimeout
            )
            return true
        } catch {
            await connection.close()
            return false
        }
    }
}
