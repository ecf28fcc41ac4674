import Foundation

/// A handler written in Swift, whose payload is decoded from the job's JSON before it runs.
///
/// ```swift
/// struct SendEmail: JobHandler {
///     struct Payload: Codable { var to: String }
///
///     func handle(_ payload: Payload, context: JobContext) async throws -> JobOutcome {
///         try await mailer.send(to: payload.to)
///         return .succeeded()
///     }
/// }
/// ```
///
/// A payload that does not decode is discarded to the dead letters with an error that names the field. An error
/// thrown from `handle` is a failure under the name of its type, retried with backoff.
public protocol JobHandler: Sendable {
    /// The type that the job's JSON payload is decoded to.
    associatedtype Payload: Decodable & Sendable

    /// Runs one job.
    ///
    /// - Parameters:
    ///   - payload: The decoded payload.
    ///   - context: The job, the deadline and a logger.
    /// - Returns: The outcome of the run.
    /// - Throws: Any error. Throw ``JobFailure`` to choose the name that retry rules match. A Foundation error which
    ///   means that this process has no descriptors or memory left counts as ``JobOutcome/unable(_:)``.
    func handle(_ payload: Payload, context: JobContext) async throws -> JobOutcome
}

/// Runs a ``JobHandler`` as a plugin: decodes the payload, then calls it.
struct SwiftPlugin<Handler: JobHandler>: HandlerPlugin {
    var handler: Handler
    private let decoder = JSONDecoder()

    init(handler: Handler) { self.handler = handler }

    func run(_ job: Job, context: JobContext) async throws -> JobOutcome {
        let payload: Handler.Payload
        do {
            payload = try decoder.decode(Handler.Payload.self, from: Data(job.payload.utf8))
        } catch let error as DecodingError {
            return .discarded(JobFailure("DecodingError", error.messageForPeople(decoding: Handler.Payload.self)))
        }
        return try await handler.handle(payload, context: context)
    }
}

extension DecodingError {
    /// The error's message for people, which names the field at fault by its path, such as `to` or `items[3].price`.
    fileprivate func messageForPeople<Payload>(decoding type: Payload.Type) -> String {
        switch self {
        case .typeMismatch(let wanted, let context):
            "the payload's field '\(context.path)' is not a \(wanted): \(context.debugDescription)"
        case .valueNotFound(let wanted, let context):
            "the payload's field '\(context.path)' is null where a \(wanted) is needed"
        case .keyNotFound(let key, let context):
            "the payload lacks the field '\((context.codingPath + [key]).path)' that \(type) needs"
        case .dataCorrupted(let context):
            "the payload's field '\(context.path)' cannot be read: \(context.debugDescription)"
        @unknown default:
            "the payload does not decode to \(type): \(self)"
        }
    }
}

extension DecodingError.Context {
    fileprivate var path: String { codingPath.isEmpty ? "(the whole payload)" : codingPath.path }
}

extension [any CodingKey] {
    fileprivate var path: String {
        reduce(into: "") { path, key in
            if let index = key.intValue {
                path += "[\(index)]"
            } else {
                path += path.isEmpty ? key.stringValue : "." + key.stringValue
            }
        }
    }
}
