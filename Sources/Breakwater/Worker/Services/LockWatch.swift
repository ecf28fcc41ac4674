import Libpq
import Logging
import Synchronization

/// Tracks which of a worker's calls are unanswered, and finds out which sessions they wait for.
///
/// A call that waits for a lock cannot report this itself. So once a call has been unanswered for half a second, this
/// queries the server over a separate connection. That connection is closed afterwards, so usually there is none.
final class LockWatch: Sendable {
    /// A call that has been unanswered for this long may be waiting for a lock.
    static let overdueTime = Duration.milliseconds(500)
    private static let interval = Duration.milliseconds(250)
    /// The same session is logged once in this time.
    private static let silence = Duration.seconds(60)

    private struct State {
        var begun: [WorkerMetrics.Loop: MonotonicClock.Instant] = [:]
        /// The session that the call of each loop was last found to wait for.
        var blockers: [WorkerMetrics.Loop: String] = [:]
        /// When each session was last logged.
        var logged: [Int: MonotonicClock.Instant] = [:]
    }

    private let state = Mutex(State())

    /// Records that a call of a loop was sent.
    func callBegan(_ loop: WorkerMetrics.Loop, at now: MonotonicClock.Instant) {
        state.withLock { state in
            state.begun[loop] = now
            state.blockers[loop] = nil
        }
    }

    /// Records that the call of a loop was answered, or will not be.
    func callEnded(_ loop: WorkerMetrics.Loop) { state.withLock { $0.begun[loop] = nil } }

    /// The session that the last call of a loop waited for; nil if it did not wait, or if that is unknown.
    func blocker(of loop: WorkerMetrics.Loop) -> String? { state.withLock { $0.blockers[loop] } }

    /// The loops whose calls have been unanswered for at least ``overdueTime``.
    func overdue(at now: MonotonicClock.Instant) -> [WorkerMetrics.Loop] {
        state.withLock { state in
            state.begun.filter { now - $0.value >= Self.overdueTime }.map(\.key).sorted { $0.rawValue < $1.rawValue }
        }
    }

    /// Records which sessions the calls of some loops wait for.
    ///
    /// - Returns: The sessions among them that were not logged recently.
    func recordBlockers(_ waits: [LockWaits.Blocker], for loops: [WorkerMetrics.Loop], at now: MonotonicClock.Instant)
        -> [LockWaits.Blocker]
    {
        state.withLock { state in
            state.logged = state.logged.filter { now - $0.value < Self.silence }
            guard let first = waits.first else { return [] }
            for loop in loops where state.begun[loop] != nil { state.blockers[loop] = first.words }
            let unlogged = waits.filter { state.logged[$0.pid] == nil }
            for wait in unlogged { state.logged[wait.pid] = now }
            return unlogged
        }
    }

    /// Checks periodically until the task is cancelled.
    func run(_ engine: Engine) async {
        while !Task.isCancelled {
            try? await Task.sleep(for: Self.interval)
            let loops = overdue(at: engine.clock.now)
            guard !loops.isEmpty, let waits = try? await ask(engine) else { continue }
            for wait in recordBlockers(waits, for: loops, at: engine.clock.now) {
                engine.loggers.database.warning(
                    "waits for a lock that another session has",
                    metadata: [
                        "for": "\(loops.map(\.rawValue).joined(separator: ", "))", "blocked_by": "\(wait.words)",
                        "waiting_sessions": .stringConvertible(wait.waiting),
                        "longest_wait_seconds": .seconds(wait.longest),
                    ]
                )
            }
        }
    }

    private func ask(_ engine: Engine) async throws(PostgresError) -> [LockWaits.Blocker] {
        let connection = try await Connection.connect(engine.configuration.database, logger: engine.loggers.database)
        let waits: [LockWaits.Blocker]
        do {
            try await connection.useOwnSettings()
            waits = try await connection.call(LockWaits(), timeout: .seconds(5))
        } catch {
            await connection.close()
            throw error
        }
        await connection.close()
        return waits
    }
}
