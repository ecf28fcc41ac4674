import Libpq
import Logging

/// Settles what has ended and claims what there is room for, in one transaction and one round trip, again and again.
///
/// While one such call is under way, ended runs gather for the next: batches grow with the load by themselves, and a
/// lone job is settled at once. In a backlog the settles go over a connection of their own (``SettleLoop``), and the next
/// claim is sent before the last is taken in.
///
/// It runs on its connection's thread, so that the next call is under way while the jobs of the one before run: on the
/// threads that run handlers, it would wait behind those jobs.
struct ClaimLoop {
    /// A look for late jobs is followed by at least so many times its own duration without one.
    static let sweepPause = 20
    /// What the server refuses for reasons that may pass is tried so many times as it is.
    static let patience = 4
    /// After so many claims in a row that found jobs, a worker no longer asks to be woken.
    private static let busyClaims = 16

    let engine: Engine
    /// Whether a claim from the cursors would find nothing, as far as is known.
    var isExhausted = false
    /// Whether the next claim asks all lanes.
    var isWide = true
    var nextPoll = Moment.now
    var nextLateLook = Moment.now
    var lastLateLook = Moment.now
    private var nextReconciliation = Moment.now
    var claimsWithJobs = 0
    /// Settles that the server refused, in a row, and runs that it refused by themselves for reasons that may pass.
    var refusals = 0
    var refusedRuns: [Dispatcher.RunKey: Int] = [:]
    /// The worker number under which inserts are asked to wake this worker, if they are.
    var sleepsAs: Int64?
    var runMetrics: RunMetrics
    var attention = Attention()
    /// The kinds that others have been told this worker attends, and when they must be told again.
    var attended: Set<String> = []
    var nextAttend = Moment.now
    init(_ engine: Engine) {
        self.engine = engine
        runMetrics = RunMetrics(engine.configuration.handlers)
    }

    /// Runs until the worker is drained, over as many connections as it takes.
    mutating func run() async {
        await engine.keepConnected(for: .claims) { connection, delay throws(PostgresError) in
            try await run(on: connection, &delay)
        }
    }

    private mutating func run(on connection: isolated Connection, _ delay: inout ReconnectDelay)
        async throws(PostgresError)
    {
        sleepsAs = nil
        attended = []
        isWide = true
        try await reconcile(on: connection)

        while !Task.isCancelled {
            engine.health.turned(.claims)
            if Moment.now >= nextReconciliation { try await reconcile(on: connection) }
            if engine.takeNews() { isExhausted = false }
            if Moment.now >= nextPoll {
                nextPoll = .now + engine.configuration.pollInterval
                isExhausted = false
                isWide = true
            }
            let mayFindMore = try await settleAndClaim(on: connection)
            delay.reset()
            if mayFindMore { continue }
            if engine.withState({ $0.dispatcher.phase == .draining && $0.dispatcher.isEmpty }) { return }
            if try await hostSuspect(on: connection) { continue }
            if try await attend(on: connection) { continue }
            if engine.configuration.listens, sleepsAs == nil, isExhausted, claimsWithJobs == 0 {
                try await sleep(on: connection, as: engine.withState(\.worker))
                continue
            }
            if !engine.withState({ $0.dispatcher.hasFinished }) { await engine.work.wait() }
        }
    }

    /// Gives back claims in this worker's name that it never heard of. After each connection, and once a lease: what a
    /// lost connection had asked for may still be under way in the server when the next one is made.
    private mutating func reconcile(on connection: isolated Connection) async throws(PostgresError) {
        nextReconciliation = .now + engine.configuration.lease
        // Nothing is claimed meanwhile, so that every answered claim is known.
        let (worker, known) = engine.withState { ($0.worker, $0.dispatcher.knownClaims) }
        let lost = try await connection.call(Reconcile(worker: worker, known: known), timeout: engine.timeout)
        if lost > 0 {
            engine.metrics.reconciled(lost)
            engine.logger.warning(
                "gave back jobs whose claim was never answered",
                metadata: ["jobs": .stringConvertible(lost)]
            )
            isExhausted = false
        }
    }

    // MARK: Settle and claim

    /// - Returns: Whether the claim was answered in full, so that the next may find more at once.
    private mutating func settleAndClaim(on connection: isolated Connection) async throws(PostgresError) -> Bool {
        let now = Moment.now
        let mayBeLate = now >= nextLateLook
        let wide = isWide
        let (settle, claim) = takeWork(all: wide, isLate: mayBeLate || wide)
        let claims = claim.total > 0 && (!settle.isEmpty || !isExhausted) && !claim.lanes.isEmpty
        if claim.total > 0, claim.lanes.isEmpty { isExhausted = true }
        guard claims || !settle.isEmpty else { return false }
        var jobs: [ClaimedJob] = []
        let sent = Moment.now
        do {
            let claimed = claims ? try connection.send([claim.statement], timeout: engine.timeout, resultsFirst: false) : nil
            let end = settle.isEmpty ? Flush(worker: settle.worker).statement : settle.statement
            let settled = try connection.send([end], timeout: engine.timeout, resultsFirst: false)
            if let claimed {
                jobs = try claim.decode(try await claimed.end()[0])
                if claim.isLate {
                    lastLateLook = .now
                    nextLateLook = .now + max(.milliseconds(5), (.now - sent) * Self.sweepPause)
                }
            }
            let answer = try await settled.end()
            engine.metrics.record(claims ? .settleAndClaim : .settle, since: sent)
            if !settle.isEmpty { self.settled(settle, try settle.decode(answer[0])) }
        } catch {
            engine.withState { $0.dispatcher.putBack(settle.runs, claims: settle.claims) }
            guard error.isAnswer, jobs.isEmpty else { throw error }
            try await refused(with: error, on: connection)
            return true
        }
        guard claims else { return false }
        if wide { isWide = false }
        return try await accept(jobs, of: claim, sent: sent, on: connection)
    }

    /// Takes what there is to settle, and asks for what there is room for.
    private func takeWork(all isWide: Bool, isLate: Bool) -> (Settle, Claim) {
        engine.withState { state in
            let (runs, claims) = state.dispatcher.takeFinished()
            let room = state.dispatcher.room(takesAny: state.solitude.isSociable)
            let lanes = state.lanes.asked(
                kinds: Set(room.kinds.map(\.kind)),
                rotation: room.rotation,
                all: isWide,
                at: .now
            )
            return (
                Settle(worker: state.worker, runs: runs, claims: claims),
                Claim(
                    worker: state.worker,
                    lanes: lanes,
                    room: room.kinds,
                    total: room.total,
                    isLate: isLate
                )
            )
        }
    }

    /// Takes in the jobs of a claim.
    private mutating func accept(
        _ jobs: [ClaimedJob],
        of claim: Claim,
        sent: Moment,
        on connection: isolated Connection
    ) async throws(PostgresError) -> Bool {
        engine.metrics.claimed(jobs.count)
        engine.logger.trace("claimed", metadata: claim.metadata(jobs))
        engine.withState { state in
            state.lanes.claimed(jobs, at: .now)
            // Struck off meanwhile, this worker has no right to them; whoever strikes it off gives them back.
            if state.worker == claim.worker { state.dispatcher.accept(jobs, askedAt: sent) }
        }
        engine.startJobs()
        attention.arrived(jobs, at: .now)
        claimsWithJobs = jobs.isEmpty ? 0 : claimsWithJobs + 1
        // If a polling worker cannot keep up, it stops polling so that other workers are notified.
        let isBehind = !attended.isEmpty && jobs.count == claim.total
        if sleepsAs != nil, isBehind || (attended.isEmpty && claimsWithJobs >= Self.busyClaims) {
            try await stayAwake(on: connection, as: claim.worker)
        }
        isExhausted = jobs.count < claim.total
        return !isExhausted
    }

    /// Claims a suspect, once this worker has made itself free for one.
    ///
    /// - Returns: Whether there was one.
    private mutating func hostSuspect(on connection: isolated Connection) async throws(PostgresError) -> Bool {
        let now = Moment.now
        let worker = engine.withState { state in
            state.solitude.wantsSuspect(holdsNothing: state.dispatcher.isFree, at: now) ? state.worker : nil
        }
        guard let worker else { return false }
        let claim = ClaimSuspect(worker: worker)
        let jobs = try await connection.call(claim, timeout: engine.timeout)
        engine.metrics.claimed(jobs.count)
        engine.logger.trace("claimed", metadata: claim.metadata(jobs))
        engine.withState { state in
            state.solitude.claimed(!jobs.isEmpty, at: .now)
            if state.worker == worker { state.dispatcher.accept(jobs, askedAt: now) }
        }
        for job in jobs {
            engine.logger.notice("runs a job alone that may have killed its workers", metadata: job.job.metadata())
        }
        engine.startJobs()
        isExhausted = false
        return !jobs.isEmpty
    }
}
