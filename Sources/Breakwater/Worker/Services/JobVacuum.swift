import Libpq
import Logging
import Synchronization

/// Vacuums the table of jobs while this worker leads, so that dead rows are removed within seconds.
///
/// Each job that ends leaves a dead row, and each scan of the table reads the dead rows too. By default, autovacuum
/// visits a database only once a minute. Only the table's owner may vacuum it and, from PostgreSQL 17 on, a role with
/// the privilege MAINTAIN; for other roles the table is left to autovacuum.
final class JobVacuum: Sendable {
    /// The timeout of one vacuum. A table that takes longer is left to autovacuum, which gives way to a session that
    /// waits for the table.
    private static let timeout = Duration.seconds(60)
    /// The SQLSTATE of the warning that the table was skipped, because another session has it locked.
    private static let skipped = "55P03"

    private let schedule = Mutex(VacuumSchedule())
    private let due = AsyncEvent()

    /// Reports how many rows the table has, as the leader has read it.
    func report(_ rows: Maintain.Rows, at now: MonotonicClock.Instant) {
        if schedule.withLock({ $0.begin(rows, at: now) }) { due.raise() }
    }

    /// Vacuums the table whenever that is due, until the task is cancelled.
    func run(_ engine: Engine) async {
        while !Task.isCancelled {
            await due.wait()
            guard !Task.isCancelled else { return }
            var left: Int64?
            do {
                left = try await vacuum(engine)
            } catch {
                engine.logger.debug(
                    "the table of jobs could not be vacuumed, and is left to autovacuum for now",
                    metadata: ["error": "\(error)"]
                )
            }
            schedule.withLock { $0.end(left: left, at: engine.clock.now) }
        }
    }

    /// - Returns: The number of dead rows that a vacuum could not remove, because a session may still see them.
    private func vacuum(_ engine: Engine) async throws(PostgresError) -> Int64 {
        let connection = try await Connection.connect(
            engine.configuration.database,
            logger: engine.loggers.database,
            onNotice: { $0.sqlState == Self.skipped }
        )
        do {
            try await connection.useOwnSettings()
            // Truncating the file would lock the table.
            try await connection.script(
                "vacuum (skip_locked, truncate false, parallel 0) breakwater.job",
                timeout: Self.timeout
            )
            let left = try await connection.query("select pg_stat_get_dead_tuples('breakwater.job'::regclass)")
                .row(0)[0].int64()
            await connection.close()
            return left
        } catch {
            await connection.close()
            throw error
        }
    }
}

/// Decides when the table of jobs is vacuumed.
struct VacuumSchedule {
    /// Fewer dead rows are not worth a vacuum.
    static let fewestDead: Int64 = 5000
    /// A vacuum reads all entries of the indexes, so a long table must have more dead rows.
    static let deadShare = 0.2
    /// The shortest pause between two vacuums.
    static let pause = Duration.seconds(5)
    /// After this pause a vacuum is tried again, even if the last one could not remove much. It doubles with each
    /// failure in a row.
    static let longPause = Duration.seconds(60)
    static let longestPause = Duration.seconds(3600)

    private var isRunning = false
    private var lastEnd: MonotonicClock.Instant?
    /// The number of dead rows that the last vacuum could not remove.
    private var left: Int64 = 0
    /// The number of vacuums in a row that failed.
    private var failures = 0

    /// Whether a vacuum is to begin now. If so, it counts as running until ``end(left:at:)``.
    mutating func begin(_ rows: Maintain.Rows, at now: MonotonicClock.Instant) -> Bool {
        guard !isRunning, Double(rows.dead) >= max(Double(Self.fewestDead), Self.deadShare * Double(rows.live)) else {
            return false
        }
        if let lastEnd, now - lastEnd < pause(before: rows) { return false }
        isRunning = true
        return true
    }

    private func pause(before rows: Maintain.Rows) -> Duration {
        if failures > 0 { return min(Self.longPause * (1 << min(failures - 1, 10)), Self.longestPause) }
        return rows.dead >= 2 * left + Self.fewestDead ? Self.pause : Self.longPause
    }

    /// A vacuum has ended.
    ///
    /// - Parameters:
    ///   - left: The number of dead rows that it could not remove; nil if it failed.
    ///   - now: The present time.
    mutating func end(left: Int64?, at now: MonotonicClock.Instant) {
        isRunning = false
        lastEnd = now
        failures = left == nil ? failures + 1 : 0
        if let left { self.left = left }
    }
}
