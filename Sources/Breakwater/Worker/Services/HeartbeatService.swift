import Libpq
import Logging

/// Sends the heartbeats that keep the worker's lease. It has its own connection, so that neither a busy consumer nor
/// long maintenance delays a heartbeat.
struct HeartbeatService {
    /// How often a worker that does not listen asks which of its runs are cancelled.
    static let cancelInterval = Duration.milliseconds(500)

    let engine: Engine
    private var nextBeat: MonotonicClock.Instant
    private var nextCancelCheck: MonotonicClock.Instant
    /// Whether runs were to be cancelled at the last heartbeat or check.
    private var hasCancelRequests = false

    init(_ engine: Engine) {
        self.engine = engine
        nextBeat = engine.clock.now
        nextCancelCheck = engine.clock.now
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
                } else if mustCheckCancelRequests, engine.clock.now >= nextCancelCheck {
                    try await checkCancelRequests(on: connection)
                }
                let next = mustCheckCancelRequests ? min(nextBeat, nextCancelCheck) : nextBeat
                await engine.heartbeat.wait(until: next, on: engine.clock)
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
            hasCancelRequests = !answer.cancelRequests.isEmpty
            nextCancelCheck = engine.clock.now + Self.cancelInterval
            try await storeReports(on: connection)
            if !answer.isRegistered { try await renewRegistration(on: connection) }
        } else {
            try await registerAnew(on: connection)
        }
    }

    /// Whether to ask for requests to cancel runs between heartbeats: this worker is not notified of them, or has not
    /// dealt with all (the answer to a claim may have been on its way).
    private var mustCheckCancelRequests: Bool {
        hasCancelRequests || !engine.health.isConnected(.wakeUps)
    }

    /// Asks which runs are to be cancelled, if there are any runs.
    private mutating func checkCancelRequests(on connection: Connection) async throws(PostgresError) {
        nextCancelCheck = engine.clock.now + Self.cancelInterval
        let worker = engine.read { $0.held.isEmpty ? nil : $0.worker }
        guard let worker else { return hasCancelRequests = false }
        let requests = try await connection.call(
            CancelRequests(worker: worker),
            timeout: engine.configuration.lease / 2
        )
        hasCancelRequests = !requests.isEmpty
        if hasCancelRequests { engine.handle(.cancelRequested(requests)) }
    }

    /// Stores what runs have reported since the last heartbeat.
    private func storeReports(on connection: Connection) async throws(PostgresError) {
        let reports = engine.progress.unstored {
            engine.read { Set($0.held.slots.compactMap { $0.map { RunKey($0.job) } }) }
        }
        guard !reports.isEmpty else { return }
        do {
            try await connection.call(
                ReportProgress(worker: engine.worker, reports: reports),
                timeout: engine.configuration.lease / 2
            )
            engine.progress.stored(reports)
        } catch {
            // Reports must not cost the worker its lease. They are stored with the next heartbeat.
            guard error.isAnswer else { throw error }
            engine.logger.warning("what runs have reported cannot be stored now", metadata: ["error": "\(error)"])
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
