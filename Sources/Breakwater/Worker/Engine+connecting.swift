import Libpq
import Logging

extension Engine {
    /// Does something over one connection after another, for as long as connections fail: until it returns, or the task is
    /// cancelled.
    ///
    /// - Parameters:
    ///   - purpose: What cannot go on without a connection, for the log.
    ///   - body: What is done. It resets the delay once the connection has proved itself.
    func keepConnected(
        for purpose: String,
        _ body: (Connection, inout ReconnectDelay) async throws(PostgresError) -> Void
    ) async {
        var delay = ReconnectDelay()
        // Several tries must fit between two beats and the end of the lease, and what is settled late is settled in vain.
        let longestPause = min(.seconds(5), configuration.lease / 10)
        while !Task.isCancelled {
            do {
                let connection = try await Connection.connect(configuration.database, logger: logger)
                do {
                    try await body(connection, &delay)
                    await connection.close()
                    return
                } catch {
                    await connection.close()
                    throw error
                }
            } catch {
                guard !Task.isCancelled else { return }
                let pause = min(delay.next(), longestPause)
                logger.warning(
                    "connecting again for \(purpose)",
                    metadata: ["error": "\(error)", "in": "\(pause)"]
                )
                try? await Task.sleep(for: pause)
            }
        }
    }
}
