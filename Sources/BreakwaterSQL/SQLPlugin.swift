public import Breakwater
import Foundation
public import Libpq
public import Logging

/// Runs jobs by calling a function of the database with the jobs, and settles each success in the same transaction:
/// what the function does in the database happens exactly once.
///
/// The function is called as `function(payload jsonb, job jsonb)` or as `function(payload jsonb)`, with the rights of a
/// role of its own. Each call is a transaction on one of the plugin's own connections:
///
/// 1. The function runs.
/// 2. `breakwater.settle` deletes the job under the lease of its claim, unless the job was given to another run.
/// 3. COMMIT makes both visible at once. If the job was not held any more, it is ROLLBACK.
///
/// Why this is exactly once: the transaction can only commit if it deletes the job, only one transaction can delete it,
/// and a job is never deleted as a success without its transaction. If the answer to COMMIT is lost, the worker
/// releases the job as if it had not run. If the transaction has committed, there is no such job, and the release
/// changes nothing.
///
/// An error that the function raises rolls everything back. Its SQLSTATE decides the outcome, which the worker settles
/// as usual. The transaction has done nothing else by then, so it needs no savepoint.
public struct SQLPlugin: SettlingPlugin, SuspendingPlugin {
    /// How many connections a plugin may have.
    public static let connectionsRange = 1...100
    /// How many bytes of a result may be kept.
    public static let maxResultRange = 1...(1 << 30)
    /// The longest `timeout` that the kind of a plugin should have, because a transaction that runs keeps vacuum from
    /// removing what was deleted after its start, in all tables.
    public static let longestTimeout = Duration.seconds(3600)

    /// The function, as `schema.name`.
    public var function: String { pool.function }
    /// The role with whose rights the function runs.
    public var role: String { pool.role }
    /// The most calls at once.
    public var capacity: Int? { pool.places.count }

    let pool: SessionPool
    private let rules: SQLStateRules
    private let maxResultBytes: Int

    /// - Parameters:
    ///   - function: The function as `schema.name`, written as in SQL.
    ///   - role: The role with whose rights the function runs. The worker's login must be a member of it.
    ///   - database: How the plugin connects to the worker's database. Defaults to the worker's own way.
    ///   - connections: The most connections, and so the most calls at once, 1 to 100. Defaults to 4.
    ///   - discardOn: SQLSTATEs, or their first two characters, of errors after which the job is discarded. `22` and
    ///     `23` are, unless `retryOn` has them. Defaults to none.
    ///   - retryOn: SQLSTATEs, or their first two characters, of errors after which the job is retried. Defaults to
    ///     none.
    ///   - maxResultBytes: How many bytes of what the function returns are kept as the result, 1 byte to 1 GiB. The
    ///     beginning of a longer result is kept as a JSON string. Defaults to 1 MiB.
    /// - Throws: ``SQLPluginError``.
    public init(
        function: String,
        role: String,
        database: ConnectionOptions? = nil,
        connections: Int = 4,
        discardOn: [String] = [],
        retryOn: [String] = [],
        maxResultBytes: Int = 1 << 20
    ) throws {
        guard Self.isQualifiedName(function) else {
            throw SQLPluginError(.invalidFunction, "'\(function)' names no function; give schema.name, such as app.pay")
        }
        guard (1...63).contains(role.utf8.count), !role.utf8.contains(0) else {
            throw SQLPluginError(.invalidRole, "'\(role)' is no name of a role; give one of 1 to 63 bytes")
        }
        guard Self.connectionsRange.contains(connections) else {
            let range = "\(Self.connectionsRange.lowerBound) to \(Self.connectionsRange.upperBound)"
            throw SQLPluginError(.invalidConnections, "\(connections) connections are not allowed; give \(range)")
        }
        guard Self.maxResultRange.contains(maxResultBytes) else {
            throw SQLPluginError(.invalidLimit, "maxResultBytes is \(maxResultBytes): it must be 1 byte to 1 GiB")
        }
        self.maxResultBytes = maxResultBytes
        rules = try SQLStateRules(discardOn: discardOn, retryOn: retryOn)
        pool = SessionPool(function: function, role: role, database: database, limit: connections)
    }

    /// Whether a text has the form `schema.name`, with plain or quoted names.
    package static func isQualifiedName(_ text: String) -> Bool {
        let names = #/(?:[\p{L}_][\p{L}\p{N}_$]*|"(?:[^"\u{0}]|"")+")\.(?:[\p{L}_][\p{L}\p{N}_$]*|"(?:[^"\u{0}]|"")+")/#
        return text.utf8.count <= 260 && text.wholeMatch(of: names) != nil
    }

    /// Whether a text is a SQLSTATE, or a class of them, for `discardOn` and `retryOn`.
    package static func isState(_ text: String) -> Bool { SQLStateRules.isState(text) }

    package func prepare(
        kind: String,
        worker: Connection,
        database: ConnectionOptions,
        logger: Logger
    ) async throws {
        do {
            try await pool.prepare(worker: worker, database: database, logger: logger)
        } catch let error as PostgresError where error.sqlState == SQLSession.refusal {
            let hint = error.hint.map { "\n\($0)" } ?? ""
            throw BreakwaterError(.invalidConfiguration, "handlers.\(kind).sql: \(error.message)\(hint)")
        } catch let error as BreakwaterError {
            throw BreakwaterError(error.code, "handlers.\(kind).sql: \(error.message)")
        }
    }

    /// Does nothing, because the connections are made when they are needed.
    public func start(logger: Logger) async {}

    /// Closes the connections.
    public func stop() async { await pool.close() }

    /// Runs one job.
    ///
    /// - Throws: `CancellationError` when the job was cancelled; everything is rolled back by then.
    public func run(_ job: Job, context: JobContext) async throws -> JobOutcome {
        guard let settlement = context.settlement else {
            return .failed(JobFailure("sql.noWorker", "only a worker can run this, because the run settles the job"))
        }
        try Task.checkCancellation()
        let session: SQLSession
        do {
            session = try await pool.take()
        } catch  where error is CancellationError || (error as? PostgresError)?.code == .cancelled {
            throw CancellationError()
        } catch {
            // Neither the job nor the function is at fault.
            return .unable(JobFailure("sql.noConnection", Self.message(of: error)))
        }
        let description = context.json(of: job)
        let returned = await session.call(description, job, context, maxResultBytes: maxResultBytes)
        if case .success(let returned) = returned, returned.isCut {
            context.logger.resultWasCut(kept: maxResultBytes, of: returned.size)
        }
        let isCancelled = Task.isCancelled
        // A success counts even if the run is cancelled now. A session that is given back must have no transaction. So
        // this work must not be cancelled with the run, and its task is unstructured. The task is awaited here, so it
        // does not outlive the run, and each of its calls has a deadline.
        let end = await Task {
            let ended = await session.end(returned, isCancelled: isCancelled, settlement)
            await pool.give(back: session)
            return ended
        }.value
        if case .interrupted = end, isCancelled { throw CancellationError() }
        return outcome(of: end)
    }

    private static func message(of error: any Error) -> String {
        guard let error = error as? PostgresError else { return "\(error)" }
        return [error.message, error.hint].compactMap(\.self).joined(separator: "; ")
    }

    private func outcome(of end: SQLSession.CallEnd) -> JobOutcome {
        switch end {
        case .committed(let result): .succeeded(result: result)
        // The worker has lost the job, or may have; the lease decides. Releasing costs the job no attempt.
        case .notHeld, .unknown, .interrupted: .released
        case .replaced:
            .failed(JobFailure("sql.replaced", "the function has replaced pg_temp.breakwater_call, which calls it"))
        case .failed(let error): rules.outcome(of: error)
        }
    }
}

extension JobContext {
    /// The job as its function gets it, in JSON: the fields that all plugins pass, and some of the job's row.
    fileprivate func json(of job: Job) -> String {
        var members = fields(of: job).map { field, text in
            let isJSON = [.id, .attempt, .maxAttempts, .checkpoint].contains(field)
            return "\"\(field.rawValue)\":\(isJSON ? text : JobResult.quoted(text))"
        }
        members += [
            "\"priority\":\(job.priority)", "\"enqueued_at\":\"\(job.enqueuedAt.formatted(.iso8601))\"",
            "\"is_probe\":\(job.isProbe)",
        ]
        return "{\(members.joined(separator: ","))}"
    }
}
