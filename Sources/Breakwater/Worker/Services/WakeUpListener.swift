import Libpq
import Logging

/// Receives notifications of inserts, circuits and pauses on a separate connection. Without it, the worker learns of
/// these later, by its poll and the next heartbeat.
struct WakeUpListener {
    let engine: Engine

    /// Runs until its task is cancelled.
    func run() async {
        await engine.keepConnected(for: .wakeUps, to: engine.configuration.listenDatabase) {
            connection,
            delay throws(PostgresError) in
            try await connection.listen("breakwater")
            delay.reset()
            // Catches up on notifications that were sent while this worker was not listening.
            engine.requestHeartbeat()
            engine.handle(.woken(kind: nil))
            for await notification in connection.notifications { handle(notification.payload) }
            // The notifications end with the connection.
            throw await connection.waitUntilClosed()
        }
    }

    private func handle(_ payload: String) {
        let words = payload.split(separator: ":", maxSplits: 1)
        switch words.first {
        case "job":
            guard let kind = words.last.map(String.init), engine.handlers[kind] != nil else { return }
            engine.handle(.woken(kind: kind))
        case "circuit", "pause", "resume":
            engine.requestHeartbeat()
            engine.handle(.woken(kind: nil))
        case "cancel":
            // The answer to the heartbeat names the runs.
            if words.last.flatMap({ Int64($0) }) == engine.worker { engine.requestHeartbeat() }
        default:
            break
        }
    }
}
