import Breakwater
package import Libpq
package import Logging
import ServiceLifecycle

/// Sends a message to the operator's program or URL when an incident begins or ends.
///
/// Every worker with such a configuration may run one, because `breakwater.next_notice` gives each message to only one
/// of them. A connection is opened for each query and closed again. Delivery of a message is retried for an hour.
package struct IncidentNotifier: Service {
    private let database: ConnectionOptions
    private let target: NotificationTarget
    private let interval: Duration
    private let logger: Logger

    /// - Parameters:
    ///   - database: The database with the incidents.
    ///   - target: The target of the messages.
    ///   - interval: The time between two queries. Defaults to 10 seconds.
    ///   - logger: Receives the results of deliveries.
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

    /// Delivers messages until shutdown. A shutdown cancels a delivery in progress, and another worker retries it.
    package func run() async throws {
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                do {
                    while try await deliverNext() {}
                } catch {
                    guard !Task.isCancelled else { return }
                    logger.debug("the messages about incidents could not be had", metadata: ["error": "\(error)"])
                }
                // The pause is random, so that the workers of a fleet do not all query at once.
                try? await Task.sleep(for: interval * Double.random(in: 0.8...1.2))
            }
        }
    }

    /// - Returns: Whether there was a message to deliver.
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
