import Libpq
import Logging

extension Engine {
    /// Runs `body` with a connection, and again with a new one whenever the connection fails, until `body` returns or
    /// the task is cancelled.
    ///
    /// - Parameters:
    ///   - purpose: The loop that needs the connection, for the log.
    ///   - database: The database to connect to. Defaults to the one with the jobs.
    ///   - body: The work with the connection. It resets the delay once the connection has proved to work.
    func keepConnected(
        for purpose: WorkerMetrics.Loop,
        to database: ConnectionOptions? = nil,
        _ body: (Connection, inout ReconnectDelay) async throws(PostgresError) -> Void
    ) async {
        var delay = ReconnectDelay()
        // Several attempts must fit between a heartbeat and the end of the lease, and a settle after its end has no
        // effect.
        let longestPause = min(.seconds(5), configuration.lease / 10)
        let isMain = database == nil
        while !Task.isCancelled {
            health.recordIteration(of: purpose)
            if isMain, purpose != .beats { await waitForOutage(purpose) }
            do throws(PostgresError) {
                let connection = try await Connection.connect(
                    database ?? configuration.database,
                    logger: loggers.database,
                    onNotice: loggers.logNotice
                )
                if isMain { outage.end() }
                record(purpose, isConnected: true)
                do throws(PostgresError) {
                    try await connection.useOwnSettings()
                    try await body(connection, &delay)
                    record(purpose, isConnected: false)
                    await connection.close()
                    return
                } catch {
                    record(purpose, isConnected: false)
                    await connection.close()
                    throw error
                }
            } catch {
                guard !Task.isCancelled else { return }
                metrics.reconnects(purpose)
                health.failed(purpose, "\(error)")
                var pause = min(delay.next(), longestPause)
                if isMain, error.isServerAbsent, !health.isConnected(.beats) {
                    outage.record(error)
                    if purpose == .beats { handle(.databaseAbsent) }
                    pause = min(.milliseconds(.random(in: 100...900)), longestPause)
                } else {
                    if purpose == .beats { outage.recordUnclearFailure() }
                    loggers.database.warning(
                        "connecting again for \(purpose.rawValue)",
                        metadata: ["error": "\(error)", "pause_seconds": .seconds(pause)]
                    )
                }
                try? await Task.sleep(for: pause)
            }
        }
    }

    /// Waits while the database is down. Only the connection for heartbeats is attempted then, so that a fleet does not
    /// reconnect with all its connections at once.
    private func waitForOutage(_ purpose: WorkerMetrics.Loop) async {
        while outage.isProven, !Task.isCancelled {
            try? await Task.sleep(for: .milliseconds(.random(in: 50...300)))
            health.recordIteration(of: purpose)
        }
    }

    private func record(_ purpose: WorkerMetrics.Loop, isConnected: Bool) {
        metrics.record(purpose, isConnected: isConnected)
        health.record(purpose, isConnected: isConnected)
    }
}
