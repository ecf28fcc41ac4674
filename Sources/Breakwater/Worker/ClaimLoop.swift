import Libpq
import Logging

/// Settles what has ended and claims what there is room for, in one transaction and one round trip, again and again.
///
/// While one such call is under way, ended runs gather for the next: batches grow with the load by themselves, and a
/// lone job is settled at once.
///
/// It runs on its connection's thread, so that the next call is under way while the jobs of the one before run: on the
/// threads that run handlers, it would wait behind those jobs.
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
    private var attention = Attention()
    /// The kinds that others have been told this worker attends, and when they must be told again.
    private var attended: Set<String> = []
    private var nextAttend = ContinuousClock.now

    init(_ engine: Engine) { self.engine = engine }

    /// Runs until the worker is drained, over as many connections as it takes.
    mutating func run() async {
        await engine.keepConnected(for: "claims") { connection, delay throws(PostgresError) in
            try await run(on: connection, &delay)
        }
    }

    private mutating func run(on connection: isolated Connection, _ delay: inout ReconnectDelay)
        async throws(PostgresError)
    {
        sleepsAs = nil
        attended = []
        isSweepOwed = true
        try await reconcile(on: connection)
        delay.reset()

        while !Task.isCancelled {
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
        let lost = try await connection.call(Reconcile(worker: worker, known: known))
        if lost > 0 {
            engine.logger.warning("gave back jobs whose claim was never answered", metadata: ["jobs": "\(lost)"])
            isExhausted = false
        }
    }

    // MARK: Settle and claim

    /// - Returns: Whether the claim was answered in full, so that the next may find more at once.
    private mutating func settleAndClaim(on connection: isolated Connection) async throws(PostgresError) -> Bool {
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
        if let stale = settled?.stale, !stale.isEmpty {
            engine.logger.warning(
                "results of jobs that this worker no longer holds changed nothing",
                metadata: ["jobs": "\(stale)"]
            )
        }
        guard claims else { return false }

        engine.withState { state in
            state.lanes.claimed(jobs, at: now)
            // Struck off meanwhile, this worker has no right to them; whoever strikes it off gives them back.
            if state.worker == claim.worker { state.dispatcher.accept(jobs, askedAt: now) }
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
        return !isExhausted
    }

    /// Inserts no longer wake this worker; of what it attended, others are told.
    private mutating func stayAwake(on connection: isolated Connection, as worker: Int64) async throws(PostgresError) {
        try await connection.call(Sleep(worker: worker, kinds: []))
        sleepsAs = nil
        attended = []
    }

    /// While jobs of some kind come fast, gathers them for a moment instead of being told of each.
    ///
    /// - Returns: Whether to look for them again.
    private mutating func attend(on connection: isolated Connection) async throws(PostgresError) -> Bool {
        guard engine.configuration.listens else { return false }
        let now = ContinuousClock.now
        attention.review(at: now)
        let (worker, isFull) = engine.withState { state in
            (
                state.worker,
                state.dispatcher.phase == .draining || state.dispatcher.isFull(forAnyOf: attention.kinds)
            )
        }
        guard !attention.kinds.isEmpty, !isFull else {
            if !attended.isEmpty {
                if isFull { try await stayAwake(on: connection, as: worker) }
                // What came while nobody was told of it: look once more, and then go to sleep.
                isSweepOwed = true
                if sleepsAs != nil {
                    try await sleep(on: connection, as: worker)
                    return true
                }
            }
            return false
        }
        if attended != attention.kinds || sleepsAs != worker || now >= nextAttend {
            let kinds = engine.configuration.handlers.map(\.kind)
            try await connection.call(
                Attend(
                    worker: worker,
                    queues: engine.configuration.queues,
                    attended: attention.kinds.sorted(),
                    kinds: kinds.filter { !attention.kinds.contains($0) },
                    term: Attention.term
                )
            )
            sleepsAs = worker
            attended = attention.kinds
            nextAttend = now + Attention.term / 2
        }
        try? await Task.sleep(for: Attention.interval)
        isExhausted = false
        // Jobs that appeared behind the cursors, and other lanes.
        if .now >= lastSweep + Self.longestBlindness { _ = try await sweep(on: connection) }
        return true
    }

    /// Asks to be woken by inserts. What was inserted before that woke nobody: a look must follow.
    private mutating func sleep(on connection: isolated Connection, as worker: Int64) async throws(PostgresError) {
        try await connection.call(Sleep(worker: worker, kinds: engine.configuration.handlers.map(\.kind)))
        sleepsAs = worker
        attended = []
        isExhausted = false
        isSweepOwed = true
        nextSweep = .now
    }

    /// After the server refused a batch because of its data, finds the run at fault: everything else is settled as it
    /// is, and that one as a failure that says why.
    private func settleOneByOne(on connection: isolated Connection) async throws(PostgresError) {
        let (worker, runs, claims) = engine.withState { state in
            let (runs, claims) = state.dispatcher.takeFinished()
            return (state.worker, runs, claims)
        }
        for (index, run) in runs.enumerated() {
            do {
                do {
                    _ = try await connection.call(Settle(worker: worker, runs: [run], claims: []))
                } catch  where error.refusesData {
                    var failed = run
                    failed.ending = FinishedRun.Ending(
                        className: "failed",
                        failure: JobFailure("unstorable", "its outcome cannot be stored: \(error.message)").storable,
                        delay: .seconds(60)
                    )
                    _ = try await connection.call(Settle(worker: worker, runs: [failed], claims: []))
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
    private mutating func sweep(on connection: isolated Connection) async throws(PostgresError) -> Bool {
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
        lastSweep = end
        nextSweep = end + (end - start) * Self.sweepPause
        isSweepOwed = false

        let hasNews = engine.withState { $0.lanes.swept(found, horizon: horizon, at: end) }
        if hasNews {
            isExhausted = false
            return true
        }
        // Ready jobs that this worker did not get, or inserts that nobody will tell it of: it looks again soon.
        let isAwake = engine.configuration.listens && sleepsAs != worker && attended.isEmpty
        if isAwake || !found.isEmpty { nextPoll = min(nextPoll, end + Self.longestBlindness) }
        guard isAwake, isExhausted, claimsWithJobs == 0 else { return false }
        try await sleep(on: connection, as: worker)
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
