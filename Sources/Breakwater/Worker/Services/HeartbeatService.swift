import Libpq
import Logging

/// Sends the heartbeats that keep the worker's lease. It has its own connection, so that neither a busy consumer nor
/// long maintenance delays a heartbeat.
struct HeartbeatService {
    let engine: Engine
    private var nextBeat: MonotonicClock.Instant

    init(_ engine: Engine) {
        self.engine = engine
        nextBeat = engine.clock.now
    }

    /// Runs until its task is cancelled.
    mutating func run() async {
        await engine.keepConnected(for: .beats) { connection, delay throws(PostgresError) in
            nextBeat = engine.clock.now
            await engine.health.checkSchema(on: connection)
            while !Task.isCancelled {
                engine.health.recordIteration(of: .beats)
                if engine.clock.now >= nextBeat {
                    try await beat(on: connection)
                    delay.reset()
                }
                await engine.heartbeat.wait(until: nextBeat, on: engine.clock)
                if engine.consumeHeartbeatRequest() { nextBeat = engine.clock.now }
                if connection.isClosed { throw await connection.waitUntilClosed() }
            }
        }
    }

    private mutating func beat(on connection: Connection) async throws(PostgresError) {
        let sent = engine.clock.now
        let beat = engine.read { consumer in
            Beat(
                worker: consumer.worker,
                isDraining: consumer.phase != .working,
                running: consumer.held.runningCount,
                unresponsive: consumer.held.unresponsiveCount
            )
        }
        engine.lockWatch.callBegan(.beats, at: sent)
        defer { engine.lockWatch.callEnded(.beats) }
        // A later answer would not prove that the lease is still held.
        let answer = try await connection.call(beat, timeout: engine.configuration.lease / 2)
        engine.metrics.record(.beat, since: sent)
        nextBeat = sent + min(.seconds(5), engine.configuration.lease / 5)
        if answer.isAlive {
            engine.handle(.heartbeat(answer, sent: sent))
            engine.health.record(holdsLease: true)
            if !answer.isRegistered { try await renewRegistration(on: connection) }
        } else {
            try await registerAnew(on: connection)
        }
    }

    /// Restores the rows that this worker had registered. Without them its kinds would have no policy and no circuit.
    private func renewRegistration(on connection: Connection) async throws(PostgresError) {
        try await connection.call(RenewRegistration(worker: engine.worker, configuration: engine.configuration))
        engine.logger.warning("rows that this worker had registered were missing, and are back: somebody deleted them")
    }

    /// Registers again as a new worker after the worker was deregistered and its jobs were released to others. All its
    /// work is stopped first.
    private mutating func registerAnew(on connection: Connection) async throws(PostgresError) {
        let lost = engine.worker
        if engine.read(\.lease.isHeld) { engine.metrics.leaseLost() }
        engine.handle(.deregistered)
        engine.logger.error("this worker was silent for too long and lost its jobs to others; registering anew")
        let sent = engine.clock.now
        let worker = try await connection.call(Register(configuration: engine.configuration))
        // This process is alive, so the jobs that ran then did not kill it and are no suspects.
        let cleared = try await connection.call(Survived(worker: lost))
        engine.logger.debug("what ran then is not suspected", metadata: ["jobs": .stringConvertible(cleared)])
        engine.handle(.registered(worker: worker, sent: sent))
        nextBeat = engine.clock.now
    }
}
