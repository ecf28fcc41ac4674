import Libpq
import Logging

/// Keeps the worker alive in the database's eyes. On a connection of its own, so that neither a busy claim loop nor long
/// chores delay a beat.
struct BeatLoop {
    let engine: Engine
    private var nextBeat = Moment.now

    init(_ engine: Engine) { self.engine = engine }

    /// Runs until its task is cancelled.
    mutating func run() async {
        await engine.keepConnected(for: .beats) { connection, delay throws(PostgresError) in
            nextBeat = .now
            await engine.health.checkSchema(on: connection)
            while !Task.isCancelled {
                engine.health.turned(.beats)
                if Moment.now >= nextBeat {
                    try await beat(on: connection)
                    delay.reset()
                }
                // The ticker raises this signal ten times a second; others do when a beat is wanted at once.
                await engine.beat.wait()
                if engine.takeBeatWanted() { nextBeat = .now }
            }
        }
    }

    private mutating func beat(on connection: Connection) async throws(PostgresError) {
        let sent = Moment.now
        let beat = engine.withState { state in
            Beat(
                worker: state.worker,
                isDraining: state.dispatcher.phase == .draining,
                running: state.dispatcher.running.count
            )
        }
        // An answer later than this could not be trusted any more.
        let answer = try await connection.call(beat, timeout: engine.configuration.lease / 2)
        engine.metrics.record(.beat, since: sent)
        nextBeat = sent + min(.seconds(5), engine.configuration.lease / 5)
        if answer.isAlive {
            engine.beatAnswered(sentAt: sent, answer)
        } else {
            try await registerAnew(on: connection)
        }
    }

    /// Others have this worker's jobs now: it stops whatever it was doing, and comes back as a new worker.
    private mutating func registerAnew(on connection: Connection) async throws(PostgresError) {
        let cancelled = engine.forgetLease()
        engine.logger.error(
            "this worker was silent for too long and lost its jobs to others; registering anew",
            metadata: ["cancelled": .stringConvertible(cancelled)]
        )
        let sent = Moment.now
        let worker = try await connection.call(Register(configuration: engine.configuration))
        // What ran then did not kill this process.
        let lost = engine.withState { $0.worker }
        let cleared = try await connection.call(Survived(worker: lost))
        engine.logger.debug("what ran then is not suspected", metadata: ["jobs": .stringConvertible(cleared)])
        engine.withState { state in
            state.worker = worker
            state.dispatcher.regainLease(asOf: sent)
        }
        engine.woken(kind: nil)
        nextBeat = .now
    }
}
