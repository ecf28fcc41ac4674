public import Foundation
import Libpq
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
        try await withProducerSpan(kind, queue, bytes: payload.utf8.count, tracer) { trace in
            let statement = TextStatement(
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
            return try await ids(of: statement).only(statement)
        }
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
        return try await withProducerSpan(kind.name, queue, bytes: array.utf8.count) { trace in
            try await ids(
                of: TextStatement(
                    """
                    select id::text from breakwater.enqueue_many($1::text, $2::text::jsonb[], queue => $3::text, \
                    priority => $4::text::int, run_at => to_timestamp($5::text::float8), \
                    max_attempts => $6::text::int, after => $7::text::bigint[], on_dead => $8::text, \
                    batch => $9::text::bigint, traceparent => $10::text, tracestate => $11::text) as id
                    """,
                    [
                        kind.name, array, queue, "\(priority)", TextStatement.seconds(runAt),
                        maxAttempts.map(String.init), TextStatement.array(after), onDead.rawValue,
                        batch.map(String.init), trace.traceparent, trace.tracestate,
                    ]
                )
            )
        }
    }
}

// MARK: What the calls share

/// A value as JSON text.
func encodedJSON(_ value: some Encodable) throws -> String {
    String(decoding: try JSONEncoder().encode(value), as: UTF8.self)
}

extension JobDatabase {
    /// Runs a statement that returns ids.
    func ids(of statement: TextStatement) async throws -> [Int64] {
        try await texts(of: statement).map { text in
            guard let id = text.flatMap({ Int64($0) }) else { throw BreakwaterError.unreadable(text, statement) }
            return id
        }
    }

    /// Calls `body` within a producer span, with the trace that its jobs are to carry.
    func withProducerSpan<Value>(
        _ kind: String,
        _ queue: String,
        bytes: Int,
        _ tracer: any Tracer = InstrumentationSystem.tracer,
        _ body: (TraceCarrier) async throws -> Value
    ) async throws -> Value {
        let span = tracer.startAnySpan("enqueue \(kind)", ofKind: .producer)
        defer { span.end() }
        var carrier = TraceCarrier()
        tracer.inject(span.context, into: &carrier, using: TraceCarrier.Access())
        span.updateAttributes { attributes in
            attributes[.system] = "breakwater"
            attributes[.destination] = .string(queue)
            attributes[.operation] = "enqueue"
            attributes[.operationType] = "send"
            attributes[.kind] = .string(kind)
            attributes[.bodySize] = .int64(Int64(bytes))
        }
        do {
            let value = try await body(carrier)
            if let id = value as? Int64 { span.updateAttributes { $0[.message] = .string("\(id)") } }
            return value
        } catch {
            let name = (error as? PostgresError).map { $0.sqlState ?? "\($0.code)" } ?? "\(type(of: error))"
            span.setStatus(SpanStatus(code: .error, message: name))
            span.updateAttributes { $0[.error] = .string(name) }
            throw error
        }
    }
}

extension [Int64] {
    /// The only id of an answer.
    func only(_ statement: TextStatement) throws -> Int64 {
        guard let id = first, count == 1 else { throw BreakwaterError.unreadable("\(count) rows", statement) }
        return id
    }
}

extension BreakwaterError {
    static func unreadable(_ text: String?, _ statement: TextStatement) -> BreakwaterError {
        BreakwaterError(.unexpectedAnswer, "the database answered \(text ?? "NULL") to: \(statement.sql)")
    }
}
