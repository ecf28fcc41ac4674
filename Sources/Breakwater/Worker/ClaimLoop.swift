import Libpq
import Logging

/// Settles what has ended and claims what there is room for, in one transaction and one round trip, again and again.
///
/// While one such call is under way, ended runs gather for the next: batches grow with the load by themselves, and a
/// lone job is settled at once.
struct ClaimLoop {
    /// A sweep is followed by at least so many times its own duration without one.
    private static let sweepPause = 20
    /// A worker that finds jobs at every claim sweeps this often nevertheless, and one that neither sleeps nor knows of
    /// every ready job what became of it looks again after this time at the latest.
    private static let longestBlindness = Duration.seconds(1)
    /// After so many claims in a row that found jobs, a worker no longer asks to be woken.
    private static let busyClaims = 16

    let engine: Engine
    /// Whether a claim from the cursors would find nothing, as far as is known.
    private var isExhausted = false
    private var isSweepOwed = true
    /// Not before this, unless somebody says that there are jobs.
    private var nextSweep = ContinuousClock.now
    private var nextPoll = ContinuousClock.now
    private var lastSweep = ContinuousClock.now
    private var nextReconciliation = ContinuousClock.now
    private var claimsWithJobs = 0
    /// The worker number under which inserts are asked to wake this worker, if they are.
    private var sleepsAs: Int64?
    private var runMetrics: RunMetrics

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

    private mutating func run(on connection: Connection, _ delay: inout ReconnectDelay) async throws(PostgresError) {
        sleepsAs = nil
        isSweepOwed = true
        try await reconcile(on: connection)
        delay.reset()

        while !Task.isCancelled {
            engine.health.turned(.claims)
            if ContinuousClock.now >= nextReconciliation { try await reconcile(on: connection) }
            if engine.takeNews() { isExhausted = false }
            if ContinuousClock.now >= nextPoll {
                nextPoll = .now + engine.configuration.pollInterval
                isExhausted = false
                isSweepOwed = true
                engine.askForProbes()
            }
            if try await settleAndClaim(on: connection) {
                // Other lanes may have got their first jobs meanwhile, more important ones among them.
                if .now >= lastSweep + Self.longestBlindness { _ = try await sweep(on: connection) }
                continue
            }
            if engine.withState({ $0.dispatcher.phase == .draining && $0.dispatcher.isEmpty }) { return }
            if isSweepOwed, .now >= nextSweep, try await sweep(on: connection) { continue }
            if !engine.withState({ $0.dispatcher.hasFinished }) { await engine.work.wait() }
        }
    }

    /// Gives back claims in this worker's name that it never heard of. After each connection, and once a lease: what a
    /// lost connection had asked for may still be under way in the server when the next one is made.
    private mutating func reconcile(on connection: Connection) async throws(PostgresError) {
        nextReconciliation = .now + engine.configuration.lease
        // Nothing is claimed meanwhile, so that every answered claim is known.
        let (worker, known) = engine.withState { ($0.worker, $0.dispatcher.knownClaims) }
        let lost = try await connection.call(Reconcile(worker: worker, known: known))
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
    private mutating func settleAndClaim(on connection: Connection) async throws(PostgresError) -> Bool {
        let now = ContinuousClock.now
        let (settle, claim) = engine.withState { state -> (Settle, Claim) in
            let (runs, claims) = state.dispatcher.takeFinished()
            let room = state.dispatcher.room()
            let lanes = state.lanes.active(
                kinds: Set(room.kinds.map(\.kind)),
                rotation: room.rotation,
                at: now
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
        let settles = !settle.runs.isEmpty || !settle.claims.isEmpty
        let mayClaim = claim.total > 0 && (settles || !isExhausted)
        let claims = mayClaim && !claim.lanes.isEmpty
        if mayClaim, !claims {
            // Every lane is quiet: only a sweep can tell whether that is still so.
            isExhausted = true
            isSweepOwed = true
        }
        guard settles || claims else { return false }

        let settled: Settle.Output?
        let jobs: [ClaimedJob]
        let call: WorkerMetrics.Call = settles ? (claims ? .settleAndClaim : .settle) : .claim
        let sent = ContinuousClock.now
        do {
            switch (settles, claims) {
            case (true, true): (settled, jobs) = try await connection.call(settle, claim)
            case (true, false): (settled, jobs) = (try await connection.call(settle), [])
            default: (settled, jobs) = (nil, try await connection.call(claim))
            }
        } catch {
            engine.withState { $0.dispatcher.putBack(settle.runs, claims: settle.claims) }
            guard error.refusesData, settles else { throw error }
            try await settleOneByOne(on: connection)
            return true
        }
        engine.metrics.record(call, since: sent)
        engine.metrics.claimed(jobs.count)
        engine.metrics.settled(settle.runs, stale: settled?.stale ?? [], in: &runMetrics)
        if let stale = settled?.stale, !stale.isEmpty {
            engine.logger.warning(
                "results of jobs that this worker no longer holds changed nothing",
                metadata: ["job_ids": .array(stale.map { .stringConvertible($0) })]
            )
        }
        guard claims else { return false }

        engine.withState { state in
            state.lanes.claimed(jobs, at: now)
            // Struck off meanwhile, this worker has no right to them; whoever strikes it off gives them back.
            if state.worker == claim.worker { state.dispatcher.accept(jobs, askedAt: now) }
        }
        engine.startJobs()
        claimsWithJobs = jobs.isEmpty ? 0 : claimsWithJobs + 1
        if sleepsAs != nil, claimsWithJobs >= Self.busyClaims {
            try await connection.call(Sleep(worker: claim.worker, kinds: []))
            sleepsAs = nil
        }
        isExhausted = jobs.count < claim.total
        if isExhausted { isSweepOwed = true }
        return !isExhausted
    }

    /// After the server refused a batch because of its data, finds the run at fault: everything else is settled as it
    /// is, and that one as a failure that says why.
    private mutating func settleOneByOne(on connection: Connection) async throws(PostgresError) {
        let (worker, runs, claims) = engine.withState { state in
            let (runs, claims) = state.dispatcher.takeFinished()
            return (state.worker, runs, claims)
        }
        for (index, run) in runs.enumerated() {
            do {
                do {
                    let settled = try await connection.call(Settle(worker: worker, runs: [run], claims: []))
                    engine.metrics.settled([run], stale: settled.stale, in: &runMetrics)
                } catch  where error.refusesData {
                    var failed = run
                    failed.ending = FinishedRun.Ending(
                        className: "failed",
                        failure: JobFailure("unstorable", "its outcome cannot be stored: \(error.message)").storable,
                        delay: .seconds(60)
                    )
                    let settled = try await connection.call(Settle(worker: worker, runs: [failed], claims: []))
                    engine.metrics.settled([failed], stale: settled.stale, in: &runMetrics)
                }
            } catch {
                engine.withState { $0.dispatcher.putBack(Array(runs[index...]), claims: claims) }
                throw error
            }
        }
        engine.withState { $0.dispatcher.putBack([], claims: claims) }
    }

    // MARK: Sweep and sleep

    /// Looks for jobs that a claim from the cursors would not find, and when there are none, asks to be woken.
    ///
    /// - Returns: Whether to claim, or to look again, at once.
    private mutating func sweep(on connection: Connection) async throws(PostgresError) -> Bool {
        let start = ContinuousClock.now
        let (worker, sweep, holders) = engine.withState { state in
            let lanes = state.lanes.all
            return (
                state.worker,
                Sweep(lanes: lanes, floors: lanes.map { state.lanes.floor(of: $0) }),
                state.lanes.notedHolders
            )
        }
        let horizon: Horizon.Output?
        let found: [Lane: Int64]
        if let holders {
            (horizon, found) = try await connection.call(Horizon(holders: holders), sweep)
        } else {
            (horizon, found) = (nil, try await connection.call(sweep))
        }
        let end = ContinuousClock.now
        engine.metrics.record(.sweep, since: start)
        lastSweep = end
        nextSweep = end + (end - start) * Self.sweepPause
        isSweepOwed = false

        let hasNews = engine.withState { $0.lanes.swept(found, horizon: horizon, at: end) }
        if hasNews {
            isExhausted = false
            return true
        }
        // Ready jobs that this worker did not get, or inserts that nobody will tell it of: it looks again soon.
        let isAwake = engine.configuration.listens && sleepsAs != worker
        if isAwake || !found.isEmpty { nextPoll = min(nextPoll, end + Self.longestBlindness) }
        guard isAwake, isExhausted, claimsWithJobs == 0 else { return false }
        try await connection.call(
            Sleep(worker: worker, kinds: engine.configuration.handlers.map(\.kind))
        )
        sleepsAs = worker
        // What was inserted before that woke nobody: look once more.
        isSweepOwed = true
        nextSweep = .now
        return true
    }
}

extension PostgresError {
    /// Whether the server refused what it was given (SQLSTATE classes 22 and 23, 54), so that trying again is no use.
    var refusesData: Bool {
        guard let sqlState else { return code == .invalidParameter }
        return ["22", "23", "54"].contains { sqlState.hasPrefix($0) }
    }
}
