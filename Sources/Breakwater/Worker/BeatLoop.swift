import Libpq
import Logging

/// Keeps the worker alive in the database's eyes, and does the fleet's chores while it leads. On a connection of its
/// own, so that a busy claim loop never delays a beat.
struct BeatLoop {
    /// A leader renews its term at each round of chores; the others take over after this long without.
    private static let term = Duration.seconds(5)
    private static let leaderInterval = Duration.seconds(1)
    private static let followerInterval = Duration.milliseconds(2500)

    let engine: Engine
    private var nextBeat = ContinuousClock.now
    private var nextChores = ContinuousClock.now
    private var leads = false

    init(_ engine: Engine) { self.engine = engine }

    /// Runs until its task is cancelled.
    mutating func run() async {
        var delay = ReconnectDelay()
        while !Task.isCancelled {
            do {
                let connection = try await Connection.connect(engine.configuration.database, logger: engine.logger)
                do {
                    try await run(on: connection, &delay)
                    await connection.close()
                } catch {
                    await connection.close()
                    throw error
                }
            } catch {
                guard !Task.isCancelled else { return }
                let pause = min(delay.next(), engine.configuration.lease / 10)
                engine.logger.warning(
                    "cannot beat; connecting again",
                    metadata: ["error": "\(error)", "in": "\(pause)"]
                )
                try? await Task.sleep(for: pause)
            }
        }
    }

    private mutating func run(on connection: Connection, _ delay: inout ReconnectDelay) async throws(PostgresError) {
        nextBeat = .now
        while !Task.isCancelled {
            if ContinuousClock.now >= nextBeat {
                try await beat(on: connection)
                delay.reset()
            }
            if ContinuousClock.now >= nextChores { try await doChores(on: connection) }
            // The ticker raises this signal ten times a second; others do when a beat is wanted at once.
            await engine.beat.wait()
            if engine.takeBeatWanted() { nextBeat = .now }
        }
    }

    private mutating func beat(on connection: Connection) async throws(PostgresError) {
        let sent = ContinuousClock.now
        let beat = engine.withState { state in
            Beat(
                worker: state.worker,
                isDraining: state.dispatcher.phase == .draining,
                running: state.dispatcher.running.count
            )
        }
        // An answer later than this could not be trusted any more.
        let answer = try await connection.call(beat, timeout: engine.configuration.lease / 2)
        nextBeat = sent + min(.seconds(5), engine.configuration.lease / 5)
        if answer.isAlive {
            engine.beatAnswered(sentAt: sent, stopped: answer.stopped)
        } else {
            try await registerAnew(on: connection)
        }
    }

    /// Others have this worker's jobs now: it stops whatever it was doing, and comes back as a new worker.
    private mutating func registerAnew(on connection: Connection) async throws(PostgresError) {
        let cancelled = engine.forgetLease()
        engine.logger.error(
            "this worker was silent for too long and lost its jobs to others; registering anew",
            metadata: ["cancelled": "\(cancelled)"]
        )
        let sent = ContinuousClock.now
        let worker = try await connection.call(Register(configuration: engine.configuration))
        engine.withState { state in
            state.worker = worker
            state.lastBeat = sent
            state.dispatcher.regainLease()
        }
        engine.woken(kind: nil)
        nextBeat = .now
    }

    private mutating func doChores(on connection: Connection) async throws(PostgresError) {
        let worker = engine.withState { $0.worker }
        let done = try await connection.call(Maintain(worker: worker, term: Self.term))
        if done.leads != leads {
            leads = done.leads
            engine.logger.debug(leads ? "leads the fleet" : "follows")
        }
        if done.rescued > 0 {
            engine.logger.warning("gave back the jobs of a lost worker", metadata: ["jobs": "\(done.rescued)"])
        }
        if done.promoted > 0 || done.turned > 0 { engine.woken(kind: nil) }
        guard leads else {
            nextChores = .now + Self.followerInterval
            return
        }
        // Sooner when more is due: the chores are done in bounded portions.
        let due = min(Self.leaderInterval, max(.milliseconds(10), done.nextDue ?? Self.leaderInterval))
        nextChores = .now + due
    }
}
