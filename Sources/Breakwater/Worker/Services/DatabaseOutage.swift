import Libpq
import Logging
import Synchronization

/// Tracks whether the database is down, for the log and for the connections that wait until it is back.
final class DatabaseOutage: Sendable {
    private struct State {
        var began: MonotonicClock.Instant?
        var logged: MonotonicClock.Instant?
        /// Whether the last attempt to connect has proved the outage.
        var isProven = false
    }

    /// How often a continuing outage is logged.
    private static let interval = Duration.seconds(60)

    private let clock: any WorkerClock
    private let logger: Logger
    private let state = Mutex(State())

    init(clock: any WorkerClock, logger: Logger) {
        self.clock = clock
        self.logger = logger
    }

    /// Whether the last attempt to connect has proved that the database is down.
    var isProven: Bool { state.withLock(\.isProven) }

    /// Records that an attempt to connect has proved that the database is down. Logs the first time, and then once a
    /// minute.
    func record(_ error: PostgresError) {
        let now = clock.now
        let duration: Duration? = state.withLock { state in
            state.isProven = true
            if let logged = state.logged, now - logged < Self.interval { return nil }
            let began = state.began ?? now
            state.began = began
            state.logged = now
            return now - began
        }
        guard let duration else { return }
        if duration == .zero {
            logger.warning(
                "the database is away; what runs goes on, and the worker connects again when it is back",
                metadata: ["error": "\(error)"]
            )
        } else {
            logger.warning(
                "the database is still away",
                metadata: ["error": "\(error)", "away_seconds": .seconds(duration)]
            )
        }
    }

    /// Records an attempt to connect that failed without showing whether the database is down.
    func recordUnclearFailure() { state.withLock { $0.isProven = false } }

    /// Records that the database accepted a connection.
    func end() {
        let began = state.withLock { state in
            defer { state = State() }
            return state.began
        }
        guard let began else { return }
        logger.notice("the database is back", metadata: ["away_seconds": .seconds(clock.now - began)])
    }
}

extension Logger.MetadataValue {
    /// A duration in seconds, to the millisecond.
    static func seconds(_ duration: Duration) -> Logger.MetadataValue {
        .stringConvertible((duration.inSeconds * 1000).rounded() / 1000)
    }
}
