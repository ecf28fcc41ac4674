import Libpq
import Logging

/// Does the fleet's maintenance chores while this worker leads: promotion, schedules, rescue, and time-based transitions
/// of circuits.
///
/// The other workers check periodically whether there is still a leader.
struct MaintenanceService {
    /// The leader's term, which it renews at each round of chores. If it does not, another worker takes over after this
    /// time.
    private static let term = Duration.seconds(5)
    static let leaderInterval = Duration.seconds(1)
    static let followerInterval = Duration.milliseconds(2500)
    /// The most jobs that one round of `breakwater.maintain` promotes, applies a fallback to or unparks, each.
    static let portion = 1000
    /// The most slots of schedules that one round deals with. A slot costs more than a job, because each schedule has
    /// statements of its own, and the jobs of a round start only after its end.
    static let slotPortion = 100
    /// How often a chore that fails for the same reason in each round is logged.
    private static let silence = Duration.seconds(60)
    /// After a failure, each chore has its own transaction for this long.
    private static let caution = Duration.seconds(60)

    let engine: Engine
    private var leads = false
    private var cautiousUntil: MonotonicClock.Instant
    /// The last logged failure of each chore, and its time.
    private var logged: [String: (failure: Maintain.Failure, blocker: String?, at: MonotonicClock.Instant)] = [:]

    init(_ engine: Engine) {
        self.engine = engine
        cautiousUntil = engine.clock.now
    }

    /// Runs until its task is cancelled.
    mutating func run() async {
        await engine.keepConnected(for: .chores) { connection, delay throws(PostgresError) in
            let chores = try await connection.call(Chores())
            while !Task.isCancelled {
                engine.health.recordIteration(of: .chores)
                let pause = try await doRound(chores, on: connection)
                delay.reset()
                try? await Task.sleep(for: pause)
            }
        }
    }

    /// - Returns: How long until the next round.
    private mutating func doRound(_ chores: [String], on connection: Connection) async throws(PostgresError)
        -> Duration
    {
        let sent = engine.clock.now
        var done = Maintain.Output(leads: false)
        var nextDue: MonotonicClock.Instant?
        // All chores share one transaction. After a failure each has its own, committed before the next one.
        let portions = sent < cautiousUntil ? chores.map { [$0] } : [chores]
        for portion in portions {
            let one = try await doChores(portion, on: connection)
            if !one.failures.isEmpty { cautiousUntil = engine.clock.now + Self.caution }
            // The pause is limited, because the next job may be due in a thousand years.
            if let due = one.nextDue {
                let time = engine.clock.now + min(due, Self.leaderInterval)
                nextDue = min(nextDue ?? time, time)
            }
            done.add(one)
            guard done.leads else { break }
        }
        // `nextDue` is now relative to the end of the round, because later chores took some time.
        done.nextDue = nextDue.map { $0 - engine.clock.now }
        engine.metrics.record(.maintain, since: sent)
        engine.metrics.record(done)
        if done.leads != leads {
            leads = done.leads
            engine.logger.debug(leads ? "leads the fleet" : "follows")
        }
        if let rows = done.rows { engine.vacuum.report(rows, at: engine.clock.now) }
        if done.fellBack > 0 {
            engine.logger.info(
                "ended jobs behind open circuits by their fallback",
                metadata: ["jobs": .stringConvertible(done.fellBack)]
            )
        }
        if done.promoted > 0 || done.advanced > 0 || done.unparked > 0 || done.scheduled > 0 {
            engine.handle(.woken(kind: nil))
        }
        return Self.pause(after: done)
    }

    private mutating func doChores(_ chores: [String], on connection: Connection) async throws(PostgresError)
        -> Maintain.Output
    {
        engine.lockWatch.callBegan(.chores, at: engine.clock.now)
        defer { engine.lockWatch.callEnded(.chores) }
        var done: Maintain.Output
        do {
            done = try await connection.call(Maintain(worker: engine.worker, term: Self.term, chores: chores))
        } catch {
            // The statement was cancelled, so only its chores have failed.
            guard error.sqlState == "57014" else { throw error }
            done = Maintain.Output(
                leads: true,
                failures: [.init(chore: chores.count == 1 ? chores[0] : "all", reason: error.message)]
            )
        }
        for failure in done.failures { log(failure) }
        return done
    }

    private mutating func log(_ failure: Maintain.Failure) {
        let now = engine.clock.now
        let blocker = engine.lockWatch.blocker(of: .chores)
        if let last = logged[failure.chore], last.failure == failure, now - last.at < Self.silence,
            // A repeated failure is logged again once its blocking session is known.
            blocker == nil || last.blocker != nil
        {
            return
        }
        logged[failure.chore] = (failure, blocker, now)
        var metadata: Logger.Metadata = ["chore": "\(failure.chore)", "error": "\(failure.reason)"]
        if let blocker { metadata["blocked_by"] = "\(blocker)" }
        engine.logger.warning("a chore of the fleet failed; the others go on", metadata: metadata)
    }

    /// How long until the next round. Chores are done in bounded portions. The next round follows soon after a full
    /// portion, and otherwise when the next job is due.
    static func pause(after done: Maintain.Output) -> Duration {
        guard done.leads else { return followerInterval }
        let hasMore = max(done.promoted, done.fellBack, done.unparked) >= portion || done.scheduled >= slotPortion
        let next = hasMore ? .zero : done.nextDue ?? leaderInterval
        return min(leaderInterval, max(.milliseconds(10), next))
    }
}
