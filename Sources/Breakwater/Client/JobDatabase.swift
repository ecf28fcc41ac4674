public import Foundation
public import Tracing

/// A session or a pool of sessions through which jobs are enqueued.
///
/// ``BreakwaterClient`` and `Connection` are producers. A connection of another Postgres client becomes one in a few
/// lines, and then enqueues within that client's own transactions. With PostgresNIO:
///
/// ```swift
/// struct PostgresNIODatabase: JobDatabase {
///     let connection: PostgresConnection
///
///     func texts(of statement: TextStatement) async throws -> [String?] {
///         var bindings = PostgresBindings()
///         for binding in statement.bindings {
///             if let binding { bindings.append(binding) } else { bindings.appendNull() }
///         }
///         let query = PostgresQuery(unsafeSQL: statement.sql, binds: bindings)
///         let rows = try await connection.query(query, logger: logger)
///         return try await rows.decode(String?.self).reduce(into: []) { $0.append($1) }
///     }
/// }
/// ```
///
/// Nothing is tried again by itself. After an error that says that the connection was lost, it is unknown whether the
/// job was enqueued. A job with a unique key can be enqueued again without being there twice.
public protocol JobDatabase: Sendable {
    /// Runs a statement.
    ///
    /// - Parameter statement: The statement, whose parameters are texts.
    /// - Returns: The only column of each row, in the order of the rows.
    /// - Throws: What the client throws, such as `PostgresError`.
    func texts(of statement: TextStatement) async throws -> [String?]
}

/// What becomes of a job that waits for others when one of those becomes a dead letter.
public enum OnDead: String, Sendable, CaseIterable {
    /// The job waits until the dead letter is redriven and succeeds, or until it is released by hand.
    case hold
    /// The job becomes a dead letter, too.
    case cancel
    /// The job runs all the same.
    case run
}

extension JobDatabase {
    /// Enqueues one job whose payload is JSON text, and passes the current trace on to its run.
    ///
    /// If tracing is set up, this makes a producer span, and the run's span continues its trace.
    ///
    /// - Parameters:
    ///   - kind: The name of the handler that runs the job: 1 to 200 bytes.
    ///   - payload: One JSON value as text. Defaults to `{}`.
    ///   - queue: The queue, of 1 to 200 bytes. Defaults to `default`.
    ///   - priority: 0 (first) to 9 (last). Defaults to 5.
    ///   - runAt: The earliest time to run, by the database's clock. Defaults to at once.
    ///   - maxAttempts: The most counted runs. Defaults to the handler's limit.
    ///   - uniqueKey: A key that at most one live job of the kind may have. Defaults to none.
    ///   - after: The ids of jobs that must have ended before this one runs. Defaults to none.
    ///   - onDead: What becomes of the job when one of `after` becomes a dead letter. Defaults to `hold`.
    ///   - batch: The id of an open batch that the job joins. Defaults to none.
    ///   - tracer: The tracer. Defaults to the one that `InstrumentationSystem` was bootstrapped with.
    /// - Returns: The job's id, or the id of the live job that already has the unique key.
    /// - Throws: What the producer throws: with `Connection` and ``BreakwaterClient`` a `PostgresError`, whose SQLSTATE
    ///   is 22023 when a value is not allowed.
    @discardableResult
    public func enqueue(
        kind: String,
        payload: String = "{}",
        queue: String = "default",
        priority: Int = 5,
        runAt: Date? = nil,
        maxAttempts: Int? = nil,
        uniqueKey: String? = nil,
        after: [Int64]? = nil,
        onDead: OnDead = .hold,
        batch: Int64? = nil,
        tracer: any Tracer = InstrumentationSystem.tracer
    ) async throws -> Int64 {
        try await idsOfEnqueued(kind, queue, bytes: payload.utf8.count, tracer) { trace in
            TextStatement(
                """
                select breakwater.enqueue($1::text, $2::text::jsonb, queue => $3::text, priority => $4::text::int, \
                run_at => to_timestamp($5::text::float8), max_attempts => $6::text::int, unique_key => $7::text, \
                after => $8::text::bigint[], on_dead => $9::text, batch => $10::text::bigint, \
                traceparent => $11::text, tracestate => $12::text)::text
                """,
                [
                    kind, payload, queue, "\(priority)", TextStatement.seconds(runAt), maxAttempts.map(String.init),
                    uniqueKey, TextStatement.array(after), onDead.rawValue, batch.map(String.init),
                    trace.traceparent, trace.tracestate,
                ]
            )
        }.only()
    }

    /// Enqueues one job, and passes the current trace on to its run.
    ///
    /// - Parameters:
    ///   - kind: The kind of the job.
    ///   - payload: The payload, which is encoded as JSON.
    ///   - queue: The queue, of 1 to 200 bytes. Defaults to `default`.
    ///   - priority: 0 (first) to 9 (last). Defaults to 5.
    ///   - runAt: The earliest time to run, by the database's clock. Defaults to at once.
    ///   - maxAttempts: The most counted runs. Defaults to the handler's limit.
    ///   - uniqueKey: A key that at most one live job of the kind may have. Defaults to none.
    ///   - after: The ids of jobs that must have ended before this one runs. Defaults to none.
    ///   - onDead: What becomes of the job when one of `after` becomes a dead letter. Defaults to `hold`.
    ///   - batch: The id of an open batch that the job joins. Defaults to none.
    /// - Returns: The job's id, or the id of the live job that already has the unique key.
    /// - Throws: `EncodingError`; what the producer throws.
    @discardableResult
    public func enqueue<Payload: Encodable>(
        _ kind: JobKind<Payload>,
        _ payload: Payload,
        queue: String = "default",
        priority: Int = 5,
        runAt: Date? = nil,
        maxAttempts: Int? = nil,
        uniqueKey: String? = nil,
        after: [Int64]? = nil,
        onDead: OnDead = .hold,
        batch: Int64? = nil
    ) async throws -> Int64 {
        try await enqueue(
            kind: kind.name,
            payload: encodedJSON(payload),
            queue: queue,
            priority: priority,
            runAt: runAt,
            maxAttempts: maxAttempts,
            uniqueKey: uniqueKey,
            after: after,
            onDead: onDead,
            batch: batch
        )
    }

    /// Enqueues many jobs of one kind with one statement, and passes the current trace on to their runs.
    ///
    /// - Parameters:
    ///   - kind: The kind of the jobs.
    ///   - payloads: The payload of each job.
    ///   - queue: The queue, of 1 to 200 bytes. Defaults to `default`.
    ///   - priority: 0 (first) to 9 (last). Defaults to 5.
    ///   - runAt: The earliest time to run, by the database's clock. Defaults to at once.
    ///   - maxAttempts: The most counted runs. Defaults to the handler's limit.
    ///   - after: The ids of jobs that must have ended before these run. Defaults to none.
    ///   - onDead: What becomes of the jobs when one of `after` becomes a dead letter. Defaults to `hold`.
    ///   - batch: The id of an open batch that the jobs join. Defaults to none.
    /// - Returns: The jobs' ids, in the order of the payloads.
    /// - Throws: `EncodingError`; what the producer throws. Then no job is enqueued.
    @discardableResult
    public func enqueueMany<Payload: Encodable>(
        _ kind: JobKind<Payload>,
        _ payloads: some Sequence<Payload>,
        queue: String = "default",
        priority: Int = 5,
        runAt: Date? = nil,
        maxAttempts: Int? = nil,
        after: [Int64]? = nil,
        onDead: OnDead = .hold,
        batch: Int64? = nil
    ) async throws -> [Int64] {
        let array = TextStatement.array(try payloads.map(encodedJSON))
        return try await idsOfEnqueued(kind.name, queue, bytes: array.utf8.count) { trace in
            TextStatement(
                """
                select id::text from breakwater.enqueue_many($1::text, $2::text::jsonb[], queue => $3::text, \
                priority => $4::text::int, run_at => to_timestamp($5::text::float8), \
                max_attempts => $6::text::int, after => $7::text::bigint[], on_dead => $8::text, \
                batch => $9::text::bigint, traceparent => $10::text, tracestate => $11::text) as id
                """,
                [
                    kind.name, array, queue, "\(priority)", TextStatement.seconds(runAt), maxAttempts.map(String.init),
                    TextStatement.array(after), onDead.rawValue, batch.map(String.init), trace.traceparent,
                    trace.tracestate,
                ]
            )
        }
    }
}
