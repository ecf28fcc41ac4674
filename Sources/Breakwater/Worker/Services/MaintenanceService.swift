import Libpq
import Logging

/// Does the fleet's chores while this worker leads: promotion, rescue, what time alone does to circuits.
///
/// The others ask now and then whether the leader still leads.
struct MaintenanceService {
    /// A leader renews its term at each round of chores; another takes over after this long without.
    private static let term = Duration.seconds(5)
    static let leaderInterval = Duration.seconds(1)
    static let followerInterval = Duration.milliseconds(2500)
    /// How many jobs one round of `breakwater.maintain` promotes, ends or brings back at most, of each.
    static let portion = 1000

    let engine: Engine
    private var leads = false

    init(_ engine: Engine) { self.engine = engine }

    /// Runs until its task is cancelled.
    mutating func run() async {
        await engine.keepConnected(for: .chores) { connection, delay throws(PostgresError) in
            while !Task.isCancelled {
                engine.health.turned(.chores)
                let pause = try await doChores(on: connection)
                delay.reset()
                try? await Task.sleep(for: pause)
            }
        }
    }

    /// - Returns: How long until the next round.
    private mutating func doChores(on connection: Connection) async throws(PostgresError) -> Duration {
        let worker = engine.worker
        let sent = engine.clock.now
        let done = try await connection.call(Maintain(worker: worker, term: Self.term))
        engine.metrics.record(.maintain, since: sent)
        engine.metrics.record(done)
        if done.leads != leads {
            leads = done.leads
            engine.logger.debug(leads ? "leads the fleet" : "follows")
        }
        if done.rescued > 0 {
            engine.logger.warning(
                "gave back the jobs of a lost worker",
                metadata: ["jobs": .stringConvertible(done.rescued)]
            )
        }
        if done.fellBack > 0 {
            engine.logger.info(
                "ended jobs behind open circuits by their fallback",
                metadata: ["jobs": .stringConvertible(done.fellBack)]
            )
        }
        if done.promoted > 0 || done.turned > 0 || done.unparked > 0 { engine.handle(.woken(kind: nil)) }
        return Self.pause(after: done)
    }

    /// How long until the next round. The chores are done in bounded portions: at once when one was full, and when the
    /// next job is due.
    static func pause(after done: Maintain.Output) -> Duration {
        guard done.leads else { return followerInterval }
        let hasMore = max(done.promoted, done.fellBack, done.unparked) >= portion
        let next = hasMore ? .zero : done.nextDue ?? leaderInterval
        return min(leaderInterval, max(.milliseconds(10), next))
    }
}
