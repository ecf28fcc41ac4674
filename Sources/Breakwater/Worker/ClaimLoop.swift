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
    /// A sweep is followed by at least so many times its own duration without one.
    static let sweepPause = 20
    /// A worker that finds jobs at every claim sweeps this often nevertheless, and one that neither sleeps nor knows of
    /// every ready job what became of it looks again after this time at the latest.
    static let longestBlindness = Duration.seconds(1)
    /// What the server refuses for reasons that may pass is tried so many times as it is.
    static let patience = 4
    /// After so many claims in a row that found jobs, a worker no longer asks to be woken.
    private static let busyClaims = 16

    /// Others are told of a floor when it has risen by so many positions.
    static let floorStep: Int64 = 10_000
    /// A backlog is worth a second connection when so many jobs are settled and claimed at a time.
    private static let manyJobs = 500

    let engine: Engine
    /// Whether a claim from the cursors would find nothing, as far as is known.
    var isExhausted = false
    var isSweepOwed = true
    /// Not before this, unless somebody says that there are jobs.
    var nextSweep = Moment.now
    var nextPoll = Moment.now
    var lastSweep = Moment.now
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
    /// A claim that is under way behind the one that was taken in last.
    private var ahead: SentClaim?

    private struct SentClaim {
        var claim: Claim
        var answer: Answer
        var time: Moment
    }

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
        isSweepOwed = true
        ahead = nil
        engine.withState { $0.lanes.forget() }
        try await noteAnswer(on: connection)
        try await reconcile(on: connection)
        let lanes = engine.withState { $0.lanes.all }
        let floors = try await connection.call(Floors(lanes: lanes), timeout: engine.timeout)
        engine.withState { $0.lanes.begin(at: floors) }

        while !Task.isCancelled {
            engine.health.turned(.claims)
            if ahead == nil, Moment.now >= nextReconciliation { try await reconcile(on: connection) }
            if engine.takeNews() { isExhausted = false }
            if Moment.now >= nextPoll {
                nextPoll = .now + engine.configuration.pollInterval
                isExhausted = false
                isSweepOwed = true
                engine.askForProbes()
            }
            let mayFindMore = try await settleAndClaim(on: connection)
            delay.reset()
            try await noteAnswer(on: connection)
            if ahead != nil { continue }
            // Whatever comes now, nothing is under way anywhere else.
            if mayFindMore {
                // Other lanes may have got their first jobs meanwhile, more important ones among them.
                if .now >= lastSweep + Self.longestBlindness { _ = try await sweep(on: connection) }
                continue
            }
            if engine.withState({ $0.dispatcher.phase == .draining && $0.dispatcher.isEmpty }) {
                return await leaveFloors(on: connection)
            }
            if try await hostSuspect(on: connection) { continue }
            if try await attend(on: connection) { continue }
            if isSweepOwed, .now >= nextSweep, try await sweep(on: connection) { continue }
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
        if let ahead {
            self.ahead = nil
            return try await takeIn(ahead, on: connection)
        }
        var (settle, claim) = takeWork()
        let mayClaim = claim.total > 0 && (!settle.isEmpty || !isExhausted)
        let claims = mayClaim && !claim.lanes.isEmpty
        if mayClaim, !claims {
            // Every lane is quiet: only a sweep can tell whether that is still so.
            isExhausted = true
            isSweepOwed = true
        }
        if claims, min(settle.runs.count, claim.total) >= Self.manyJobs, engine.settles.take(settle) {
            settle = Settle(worker: settle.worker, runs: [], claims: [])
        }
        guard !settle.isEmpty else {
            return claims ? try await takeIn(send(claim, on: connection), on: connection) : false
        }
        let results: [QueryResult]
        let sent = Moment.now
        do {
            let statements = claims ? [settle.statement, claim.statement] : [settle.statement]
            results = try await connection.pipeline(statements, timeout: engine.timeout)
            engine.metrics.record(claims ? .settleAndClaim : .settle, since: sent)
            settled(settle, try settle.decode(results[0]))
        } catch {
            engine.withState { $0.dispatcher.putBack(settle.runs, claims: settle.claims) }
            guard error.isAnswer else { throw error }
            try await refused(with: error, on: connection)
            return true
        }
        guard claims else { return false }
        try reached(claim.reach(results[1]), at: sent)
        return try await accept(claim.decode(results[1]), of: claim, sent: sent, on: connection)
    }

    /// Takes what there is to settle, and asks for what there is room for.
    ///
    /// - Parameter coming: What has been claimed already and is not here yet.
    private func takeWork(coming: [Claim.Reach] = []) -> (Settle, Claim) {
        let coming = Dictionary(coming.map { ($0.lane.kind, $0.jobs) }, uniquingKeysWith: +)
        return engine.withState { state in
            let (runs, claims) = state.dispatcher.takeFinished()
            let room = state.dispatcher.room(coming: coming, takesAny: state.solitude.isSociable)
            let lanes = state.lanes.active(
                kinds: Set(room.kinds.map(\.kind)),
                rotation: room.rotation,
                at: .now
            )
            return (
                Settle(worker: state.worker, runs: runs, claims: claims),
                Claim(
                    worker: state.worker,
                    lanes: lanes,
                    cursors: lanes.map { state.lanes.cursor(of: $0) },
                    room: room.kinds,
                    total: room.total
                )
            )
        }
    }

    private func send(_ claim: Claim, on connection: isolated Connection) throws(PostgresError) -> SentClaim {
        let answer = try connection.send(
            [claim.statement],
            timeout: engine.timeout,
            resultsFirst: claim.total >= Self.manyJobs
        )
        return SentClaim(claim: claim, answer: answer, time: .now)
    }

    /// Takes in the answer to a claim. If there is more where its jobs came from, the next claim is sent first: the server
    /// is at work on it while these jobs are committed, decoded and started.
    private mutating func takeIn(_ sent: SentClaim, on connection: isolated Connection) async throws(PostgresError)
        -> Bool
    {
        let results = try await sent.answer.results()
        let reaches = try sent.claim.reach(results[0])
        reached(reaches, at: sent.time)
        let count = reaches.reduce(0) { $0 + $1.jobs }
        if count == sent.claim.total { try await claimAhead(of: reaches, on: connection) }
        let jobs = try sent.claim.decode(results[0])
        try await sent.answer.end()
        engine.metrics.record(.claim, since: sent.time)
        return try await accept(jobs, of: sent.claim, sent: sent.time, on: connection)
    }

    /// Sends the next claim while the one before is not yet committed, if it is a large one and nothing else is due. Where
    /// others claim the same jobs, they keep the server at work, and claims without a break would only meet each other.
    private mutating func claimAhead(of coming: [Claim.Reach], on connection: isolated Connection)
        async throws(PostgresError)
    {
        let now = Moment.now
        guard sleepsAs == nil, now < nextReconciliation, now < nextPoll, now < lastSweep + Self.longestBlindness else {
            return
        }
        guard engine.withState(\.isAlone) else { return }
        if engine.settles.hasAnswer { try await noteAnswer(on: connection) }
        guard engine.settles.isReady else { return }
        let (settle, claim) = takeWork(coming: coming)
        guard claim.total >= Self.manyJobs, !claim.lanes.isEmpty, settle.isEmpty || engine.settles.take(settle) else {
            engine.withState { $0.dispatcher.putBack(settle.runs, claims: settle.claims) }
            return
        }
        engine.logger.trace("claims ahead", metadata: ["jobs": .stringConvertible(claim.total)])
        ahead = try send(claim, on: connection)
    }

    private func reached(_ reaches: [Claim.Reach], at now: Moment) {
        engine.withState { $0.lanes.claimed(reaches, at: now) }
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
            // Struck off meanwhile, this worker has no right to them; whoever strikes it off gives them back.
            if state.worker == claim.worker { state.dispatcher.accept(jobs, askedAt: sent) }
        }
        engine.startJobs()
        attention.arrived(jobs, at: .now)
        claimsWithJobs = jobs.isEmpty ? 0 : claimsWithJobs + 1
        // Whoever attends a kind and leaves jobs of it lets others help at once.
        let isBehind = !attended.isEmpty && jobs.count == claim.total
        if sleepsAs != nil, isBehind || (attended.isEmpty && claimsWithJobs >= Self.busyClaims) {
            try await stayAwake(on: connection, as: claim.worker)
        }
        isExhausted = jobs.count < claim.total
        if isExhausted { isSweepOwed = true }
        if jobs.isEmpty {
            engine.settles.want(false)
        } else if !isExhausted, jobs.count >= Self.manyJobs {
            engine.settles.want(true)
        }
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
