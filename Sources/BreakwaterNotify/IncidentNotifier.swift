import Breakwater
package import Libpq
package import Logging
import ServiceLifecycle

/// Notifies a program of the operator's when incidents begin and end.
///
/// Every worker with such a configuration may run one: `breakwater.next_notice` gives each message to one of them. A
/// connection is opened for each look and closed again. An undelivered message is tried again for an hour.
package struct IncidentNotifier: Service {
    private let database: ConnectionOptions
    private let target: NotificationTarget
    private let interval: Duration
    private let logger: Logger

    /// - Parameters:
    ///   - database: Where the incidents are.
    ///   - target: Where the messages go.
    ///   - interval: How often to look. Defaults to 10 seconds.
    ///   - logger: Where it says what was delivered, and what was not.
    package init(
        database: ConnectionOptions,
        target: NotificationTarget,
        interval: Duration = .seconds(10),
        logger: Logger
    ) {
        self.database = database
        self.target = target
        self.interval = interval
        self.logger = logger
    }

    /// Looks for messages until shutdown. A delivery that is under way then is broken off, and another worker tries it
    /// again.
    package func run() async throws {
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                do {
                    while try await deliverNext() {}
                } catch {
                    guard !Task.isCancelled else { return }
                    logger.debug("the messages about incidents could not be had", metadata: ["error": "\(error)"])
                }
                // Random, so that the workers of a fleet do not all look at once.
                try? await Task.sleep(for: interval * Double.random(in: 0.8...1.2))
            }
        }
    }

    /// - Returns: Whether there was one.
    private func deliverNext() async throws -> Bool {
        guard let notice = try await withConnection({ try await $0.call(NextNotice(), timeout: .seconds(10)) }) else {
            return false
        }
        let failure = try await target.deliver(notice, logger: logger)
        let ended = NoticeEnded(notice, isDelivered: failure == nil)
        let isGivenUp = try await withConnection { try await $0.call(ended, timeout: .seconds(10)) }
        let facts: Logger.Metadata = [
            "incident": .stringConvertible(notice.incident), "notice": .string(notice.type),
            "try": .stringConvertible(notice.tries), "to": .stringConvertible(target),
        ]
        guard let failure else {
            logger.info("told of an incident", metadata: facts)
            return true
        }
        logger.warning(
            isGivenUp
                ? "a message about an incident was not delivered within an hour, and is given up"
                : "a message about an incident was not delivered; it is tried again",
            metadata: facts.merging(["error": .string(failure)]) { $1 }
        )
        return true
    }

    private func withConnection<Answer>(_ body: (Connection) async throws -> Answer) async throws -> Answer {
        let connection = try await Connection.connect(database, logger: logger)
        do {
            try await connection.useOwnSettings()
            let answer = try await body(connection)
            await connection.close()
            return answer
        } catch {
            await connection.close()
            throw error
        }
    }
}
