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
    /// What the server refuses for reasons that may pass is tried so many times as it is.
    static let patience = 4
    /// After so many claims in a row that found jobs, a worker no longer asks to be woken.
    private static let busyClaims = 16

    /// Others are told of a floor when it has risen by so many positions.
    private static let floorStep: Int64 = 10_000
    /// A backlog is worth a second connection when so many jobs are settled and claimed at a time.
    private static let manyJobs = 500

    let engine: Engine
    /// Whether a claim from the cursors would find nothing, as far as is known.
    private var isExhausted = false
    private var isSweepOwed = true
    /// Not before this, unless somebody says that there are jobs.
    private var nextSweep = Moment.now
    private var nextPoll = Moment.now
    private var lastSweep = Moment.now
    private var nextReconciliation = Moment.now
    private var claimsWithJobs = 0
    /// Settles that the server refused, in a row, and runs that it refused by themselves for reasons that may pass.
    var refusals = 0
    var refusedRuns: [Dispatcher.RunKey: Int] = [:]
    /// The worker number under which inserts are asked to wake this worker, if they are.
    private var sleepsAs: Int64?
    var runMetrics: RunMetrics
    private var attention = Attention()
    /// The kinds that others have been told this worker attends, and when they must be told again.
    private var attended: Set<String> = []
    private var nextAttend = Moment.now

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
        engine.withState { $0.lanes.forget() }
        try await noteAnswer(on: connection)
        try await reconcile(on: connection)
        let lanes = engine.withState { $0.lanes.all }
        let floors = try await connection.call(Floors(lanes: lanes), timeout: engine.timeout)
        engine.withState { $0.lanes.begin(at: floors) }

        while !Task.isCancelled {
            engine.health.turned(.claims)
            if Moment.now >= nextReconciliation { try await reconcile(on: connection) }
            if engine.takeNews() { isExhausted = false }
            if Moment.now >= nextPoll {
                nextPoll = .now + engine.configuration.pollInterval
                isExhausted = false
                isSweepOwed = true
                engine.askForProbes()
            }
            let mayFindMore = try await settleAndClaim(on: connection)
            delay.reset()
            // Whatever comes now, nothing is under way anywhere else.
            try await noteAnswer(on: connection)
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
        let now = Moment.now
        var (settle, claim) = engine.withState { state -> (Settle, Claim) in
            let (runs, claims) = state.dispatcher.takeFinished()
            let room = state.dispatcher.room(takesAny: state.solitude.isSociable)
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
        guard !settle.isEmpty || claims else { return false }

        let jobs: [ClaimedJob]
        let sent = Moment.now
        do {
            var output: Settle.Output?
            switch (settle.isEmpty, claims) {
            case (false, true): (output, jobs) = try await connection.call(settle, claim, timeout: engine.timeout)
            case (false, false): (output, jobs) = (try await connection.call(settle, timeout: engine.timeout), [])
            default: jobs = try await connection.call(claim, timeout: engine.timeout)
            }
            engine.metrics.record(settle.isEmpty ? .claim : claims ? .settleAndClaim : .settle, since: sent)
            if let output { settled(settle, output) }
        } catch {
            engine.withState { $0.dispatcher.putBack(settle.runs, claims: settle.claims) }
            guard !settle.isEmpty, error.isAnswer else { throw error }
            try await refused(with: error, on: connection)
            return true
        }
        guard claims else { return false }

        engine.metrics.claimed(jobs.count)
        engine.logger.trace("claimed", metadata: claim.metadata(jobs))
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
        if jobs.isEmpty {
            engine.settles.want(false)
        } else if !isExhausted, jobs.count >= Self.manyJobs {
            engine.settles.want(true)
        }
        return !isExhausted
    }

    /// Inserts no longer wake this worker; of what it attended, others are told.
    private mutating func stayAwake(on connection: isolated Connection, as worker: Int64) async throws(PostgresError) {
        try await connection.call(Sleep(worker: worker, kinds: []), timeout: engine.timeout)
        sleepsAs = nil
        attended = []
    }

    /// While jobs of some kind come fast, gathers them for a moment instead of being told of each.
    ///
    /// - Returns: Whether to look for them again.
    private mutating func attend(on connection: isolated Connection) async throws(PostgresError) -> Bool {
        guard engine.configuration.listens else { return false }
        let now = Moment.now
        attention.review(at: now)
        let (worker, isFull) = engine.withState { state in
            (
                state.worker,
                state.dispatcher.phase == .draining || !state.solitude.isSociable
                    || state.dispatcher.isFull(forAnyOf: attention.kinds)
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
                ),
                timeout: engine.timeout
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
        try await connection.call(
            Sleep(worker: worker, kinds: engine.configuration.handlers.map(\.kind)),
            timeout: engine.timeout
        )
        sleepsAs = worker
        attended = []
        isExhausted = false
        isSweepOwed = true
        nextSweep = .now
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

    // MARK: Sweep and sleep

    /// Looks for jobs that a claim from the cursors would not find, and when there are none, asks to be woken.
    ///
    /// - Returns: Whether to claim, or to look again, at once.
    private mutating func sweep(on connection: isolated Connection) async throws(PostgresError) -> Bool {
        let worker = engine.withState(\.worker)
        let (hasNews, hasReady) = try await look(on: connection)
        guard !hasNews else { return true }
        // Ready jobs that this worker did not get, or inserts that nobody will tell it of: it looks again soon.
        let isAwake = engine.configuration.listens && sleepsAs != worker && attended.isEmpty
        if isAwake || hasReady { nextPoll = min(nextPoll, lastSweep + Self.longestBlindness) }
        guard isAwake, isExhausted, claimsWithJobs == 0 else { return false }
        try await sleep(on: connection, as: worker)
        return true
    }

    /// Sweeps, and tells others of floors that have risen.
    ///
    /// - Returns: Whether the next claim, or the next sweep, can find jobs that the last could not, and whether any are ready.
    private mutating func look(
        on connection: isolated Connection
    ) async throws(PostgresError) -> (hasNews: Bool, hasReady: Bool) {
        let start = Moment.now
        let (sweep, holders) = engine.withState { state in
            let lanes = state.lanes.all
            return (Sweep(lanes: lanes, floors: lanes.map { state.lanes.floor(of: $0) }), state.lanes.notedHolders)
        }
        let horizon: Horizon.Output?
        let swept: Sweep.Output
        if let holders {
            (horizon, swept) = try await connection.call(Horizon(holders: holders), sweep, timeout: engine.timeout)
        } else {
            (horizon, swept) = (nil, try await connection.call(sweep, timeout: engine.timeout))
        }
        let end = Moment.now
        engine.metrics.record(.sweep, since: start)
        lastSweep = end
        nextSweep = end + (end - start) * Self.sweepPause
        isSweepOwed = false

        if engine.withState({ $0.lanes.hasForgotten(for: swept.source) }) {
            engine.logger.notice("another server answers than before: looks for jobs from the beginning of each lane")
            (sleepsAs, attended, isSweepOwed) = (nil, [], true)
            return (true, !swept.found.isEmpty)
        }
        let hasNews = engine.withState { $0.lanes.swept(swept.found, horizon: horizon, at: end) }
        if hasNews { isExhausted = false }
        try await noteFloors(risenBy: Self.floorStep, on: connection)
        return (hasNews, !swept.found.isEmpty)
    }

    private func noteFloors(risenBy step: Int64, on connection: isolated Connection) async throws(PostgresError) {
        let floors = engine.withState { $0.lanes.takeFloorsToNote(risenBy: step) }
        guard !floors.isEmpty else { return }
        try await connection.call(NoteFloors(floors: floors), timeout: engine.timeout)
    }

    /// The last thing it does: whoever comes next begins where it ends.
    private mutating func leaveFloors(on connection: isolated Connection) async {
        do {
            // It takes two sweeps to prove a floor.
            for _ in 1...2 where engine.withState({ $0.lanes.notedHolders != nil }) {
                _ = try await look(on: connection)
            }
            try await noteFloors(risenBy: 1, on: connection)
        } catch {
            engine.loggers.database.info("left no floors behind", metadata: ["error": "\(error)"])
        }
    }
}
