import Foundation
import Libpq
import Tracing

// What the calls share.

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

    /// Calls a function that returns a boolean. NULL counts as false.
    func isTrue(_ call: String, _ bindings: [String?]) async throws -> Bool {
        try await texts(of: TextStatement("select (\(call))::text", bindings)).first == "true"
    }

    /// Calls a function that returns nothing.
    func call(_ call: String, _ bindings: [String?]) async throws {
        _ = try await texts(of: TextStatement("select (\(call))::text", bindings))
    }

    /// Reads rows as JSON objects. Times are selected as seconds since 1970.
    func rows<Value: Decodable>(_ columns: String, from source: String, _ bindings: [String?]) async throws -> [Value] {
        let statement = TextStatement(
            "select row_to_json(r)::text from (select \(columns) from \(source)) r",
            bindings
        )
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        decoder.dateDecodingStrategy = .secondsSince1970
        return try await texts(of: statement).map { text in
            do {
                return try decoder.decode(Value.self, from: Data((text ?? "null").utf8))
            } catch {
                throw BreakwaterError.unreadable(text, statement)
            }
        }
    }

    /// Runs a statement that enqueues jobs, within a producer span.
    ///
    /// - Parameters:
    ///   - kind: The kind of the jobs.
    ///   - queue: The queue of the jobs.
    ///   - bytes: The size of their payloads.
    ///   - tracer: The tracer. Defaults to the one that `InstrumentationSystem` was bootstrapped with.
    ///   - statement: Makes the statement with the trace that the jobs are to carry. It returns their ids.
    func idsOfEnqueued(
        _ kind: String,
        _ queue: String,
        bytes: Int,
        _ tracer: any Tracer = InstrumentationSystem.tracer,
        _ statement: (TraceCarrier) -> TextStatement
    ) async throws -> [Int64] {
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
            let ids = try await ids(of: statement(carrier))
            if ids.count == 1 { span.updateAttributes { $0[.message] = .string("\(ids[0])") } }
            return ids
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
    func only() throws -> Int64 {
        guard let id = first, count == 1 else {
            throw BreakwaterError(.unexpectedAnswer, "the database answered with \(count) rows, not with one")
        }
        return id
    }
}

extension BreakwaterError {
    static func unreadable(_ text: String?, _ statement: TextStatement) -> BreakwaterError {
        BreakwaterError(.unexpectedAnswer, "the database answered \(text ?? "NULL") to: \(statement.sql)")
    }
}
