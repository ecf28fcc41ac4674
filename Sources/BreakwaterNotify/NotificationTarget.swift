import Breakwater
package import BreakwaterExec
package import BreakwaterHTTP
import Foundation
package import Logging

/// The target of messages about incidents and endpoints.
package enum NotificationTarget: Sendable, CustomStringConvertible {
    /// A request to a URL, which is signed if there is a secret.
    case webhook(WebhookEndpoint)
    /// A program, which reads the message from its standard input.
    case command(ExecPlugin, name: String)

    /// The timeout of a delivery. It must be shorter than the minute for which `breakwater.next_notice` reserves a
    /// message.
    static let timeout = Duration.seconds(30)

    /// Delivers one message.
    ///
    /// - Parameters:
    ///   - notice: The message.
    ///   - logger: Receives a command's standard error.
    /// - Returns: The reason why the message was not delivered; nil if it was.
    /// - Throws: `CancellationError`.
    package func deliver(_ notice: Notice, logger: Logger) async throws -> String? {
        switch self {
        case .webhook(let endpoint):
            switch await endpoint.send(notice.message, id: notice.id, timeout: Self.timeout) {
            case .response(let response) where (200..<300).contains(response.status): return nil
            case .response(let response): return "\(endpoint) answered \(response.status)"
            case .failure(let failure):
                // If the answer was cut off but its status is a success, the message has arrived.
                if let status = failure.response?.status, (200..<300).contains(status) { return nil }
                return "\(endpoint): \(failure.reason)"
            case .cancelled: throw CancellationError()
            }
        case .command(let plugin, let name):
            return try await run(plugin, name, notice, logger: logger)
        }
    }

    private func run(_ plugin: ExecPlugin, _ name: String, _ notice: Notice, logger: Logger) async throws -> String? {
        // The program runs as for a job, so that its input, limits and remaining processes are handled in the same way.
        let job = Job(
            id: notice.number,
            queue: "notify",
            kind: "\(notice.topic.rawValue).\(notice.type)",
            payload: notice.message,
            attempt: notice.tries
        )
        let context = JobContext(job: job, deadline: .now + Self.timeout, logger: logger)
        return try await withThrowingTaskGroup(of: String??.self) { group in
            group.addTask {
                do {
                    return .some(Self.failure(of: try await plugin.run(job, context: context), name))
                } catch is CancellationError {
                    return .none
                }
            }
            group.addTask {
                try await Task.sleep(for: Self.timeout)
                return .none
            }
            defer { group.cancelAll() }
            guard let first = try await group.next() else { return nil }
            try Task.checkCancellation()
            return first ?? "\(name) did not end within 30 s"
        }
    }

    private static func failure(of outcome: JobOutcome, _ name: String) -> String? {
        switch outcome {
        case .succeeded: nil
        case .failed(let failure), .discarded(let failure), .unable(let failure): "\(name): \(failure.message)"
        case .unavailable(let failure, _), .throttled(let failure, _): "\(name): \(failure.message)"
        case .released: "\(name) did not run"
        case .snoozed: "\(name) asked to be run later"
        }
    }

    /// The target for people: the URL without its query, or the program's name.
    package var description: String {
        switch self {
        case .webhook(let endpoint): "\(endpoint)"
        case .command(_, let name): name
        }
    }
}
