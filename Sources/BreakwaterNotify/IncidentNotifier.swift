import Breakwater
package import Libpq
package import Logging
import ServiceLifecycle

/// Sends a message to the operator's program or URL when an incident begins or ends, and when a rule disables an
/// endpoint.
///
/// Every worker with such a configuration may run one, because `breakwater.next_notice` and
/// `breakwater.next_endpoint_notice` give each message to only one of them. A connection is opened for each query and
/// closed again. Delivery of a message is retried for an hour.
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
        let next = try await withConnection { connection -> Notice? in
            if let notice = try await connection.call(NextNotice(), timeout: .seconds(10)) { return notice }
            return try await connection.call(NextEndpointNotice(), timeout: .seconds(10))
        }
        guard let notice = next else { return false }
        let failure = try await target.deliver(notice, logger: logger)
        let isGivenUp = try await withConnection { connection in
            try await connection.call(NoticeEnded(notice, isDelivered: failure == nil), timeout: .seconds(10))
        }
        var metadata: Logger.Metadata = [
            "notice": .string(notice.type), "try": .stringConvertible(notice.tries), "to": .stringConvertible(target),
        ]
        switch notice.topic {
        case .incident: metadata["incident"] = .stringConvertible(notice.number)
        case .endpoint: metadata["endpoint"] = .string(notice.endpoint ?? "")
        }
        let topic = "an \(notice.topic.rawValue)"
        guard let failure else {
            logger.info("told of \(topic)", metadata: metadata)
            return true
        }
        logger.warning(
            isGivenUp
                ? "a message about \(topic) was not delivered within an hour, and is given up"
                : "a message about \(topic) was not delivered; it is tried again",
            metadata: metadata.merging(["error": .string(failure)]) { $1 }
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
