public import Foundation
public import Libpq
public import Tracing

extension Connection {
    /// Enqueues one job by `breakwater.enqueue`, and passes the current trace on to its run.
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
    ///   - tracer: The tracer. Defaults to the one that `InstrumentationSystem` was bootstrapped with.
    /// - Returns: The job's id, or the id of the live job that already has the unique key.
    /// - Throws: `PostgresError`, with SQLSTATE 22023 when a value is not allowed.
    @discardableResult
    public func enqueue(
        kind: String,
        payload: String = "{}",
        queue: String = "default",
        priority: Int = 5,
        runAt: Date? = nil,
        maxAttempts: Int? = nil,
        uniqueKey: String? = nil,
        tracer: any Tracer = InstrumentationSystem.tracer
    ) async throws(PostgresError) -> Int64 {
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
            attributes[.bodySize] = .int64(Int64(payload.utf8.count))
        }
        do {
            let id = try await query(
                """
                select breakwater.enqueue($1, $2, queue => $3, priority => $4, run_at => $5, max_attempts => $6, \
                unique_key => $7, traceparent => $8, tracestate => $9)
                """,
                [
                    .text(kind), .jsonb(payload), .text(queue), .int4(Int32(clamping: priority)), .timestamptz(runAt),
                    .int4(maxAttempts.map { Int32(clamping: $0) }), .text(uniqueKey), .text(carrier.traceparent),
                    .text(carrier.tracestate),
                ]
            )[0][0].int64()
            span.updateAttributes { $0[.message] = .string("\(id)") }
            return id
        } catch {
            span.setStatus(SpanStatus(code: .error, message: "\(error.code)"))
            span.updateAttributes { $0[.error] = .string(error.sqlState ?? "\(error.code)") }
            throw error
        }
    }

    /// Enqueues one job whose payload is encoded as JSON, and passes the current trace on to its run.
    ///
    /// - Parameters:
    ///   - kind: The name of the handler that runs it.
    ///   - payload: A value that encodes to the JSON that the handler's `Payload` decodes.
    ///   - queue: The queue. Defaults to `default`.
    ///   - priority: 0 (first) to 9 (last). Defaults to 5.
    ///   - runAt: The earliest time to run. Defaults to at once.
    ///   - maxAttempts: The most counted runs. Defaults to the handler's limit.
    ///   - uniqueKey: A key that at most one live job of the kind may have. Defaults to none.
    /// - Returns: The job's id.
    /// - Throws: `EncodingError`; `PostgresError`.
    @discardableResult
    public func enqueue(
        kind: String,
        payload: some Encodable & Sendable,
        queue: String = "default",
        priority: Int = 5,
        runAt: Date? = nil,
        maxAttempts: Int? = nil,
        uniqueKey: String? = nil
    ) async throws -> Int64 {
        try await enqueue(
            kind: kind,
            payload: String(decoding: JSONEncoder().encode(payload), as: UTF8.self),
            queue: queue,
            priority: priority,
            runAt: runAt,
            maxAttempts: maxAttempts,
            uniqueKey: uniqueKey
        )
    }
}
