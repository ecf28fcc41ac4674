public import Foundation
public import Libpq
public import Tracing

extension Connection {
    /// Enqueues one job, as `breakwater.enqueue` does, and carries the current trace on to its run.
    ///
    /// Where tracing is set up, this is a producer span, and the run's span continues its trace.
    ///
    /// - Parameters:
    ///   - kind: The name of the handler that runs it: 1 to 200 bytes.
    ///   - payload: One JSON value as text. Defaults to `{}`.
    ///   - queue: 1 to 200 bytes. Defaults to `default`.
    ///   - priority: 0 (first) to 9 (last). Defaults to 5.
    ///   - runAt: Not before this time, by the database's clock. Defaults to at once.
    ///   - maxAttempts: How many counted runs it may have. Defaults to what its handler says.
    ///   - uniqueKey: At most one live job of the kind has this key. Defaults to none.
    ///   - tracer: What makes the span. Defaults to what `InstrumentationSystem` was bootstrapped with.
    /// - Returns: The job's id; that of the live job with the unique key, if there is one already.
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

    /// Enqueues one job whose payload is encoded as JSON; likewise.
    ///
    /// - Parameters:
    ///   - kind: The name of the handler that runs it.
    ///   - payload: What the handler's `Payload` decodes from.
    ///   - queue: Defaults to `default`.
    ///   - priority: 0 (first) to 9 (last). Defaults to 5.
    ///   - runAt: Not before this time. Defaults to at once.
    ///   - maxAttempts: Defaults to what its handler says.
    ///   - uniqueKey: Defaults to none.
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
