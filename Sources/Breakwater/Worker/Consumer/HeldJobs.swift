/// The jobs that one worker holds, from the answer to a claim until their settle is answered.
///
/// A job goes `unconfirmed → waiting → running → finished → gone`. A job that is not to run (because of a shutdown, an
/// open circuit or a lost lease) goes directly from `waiting` to `finished` as released.
struct HeldJobs {
    typealias Instant = MonotonicClock.Instant

    /// The most jobs that a claim takes beyond the free slots.
    static let mostAhead = 3000
    /// The most bytes of payloads that a worker holds before it stops claiming.
    static let mostBytes = 64 << 20
    /// The most bytes of payloads that a claim takes. The last job may exceed it.
    static let mostBytesAClaim = 8 << 20

    let concurrency: Int
    var kinds: [KindQueue]
    /// The index of each kind in ``kinds``, by name.
    let places: [String: Int]
    private let hasAdaptiveKinds: Bool
    private var rotation: [String]
    var slots: [Running?] = []
    private var freeSlots: [Int] = []
    private var lastSerial = 0
    private(set) var runningCount = 0
    /// The serial numbers of runs that have not ended although their slots were given to other jobs.
    private(set) var lostRuns: Set<Int> = []
    private(set) var waitingCount = 0
    /// The indexes of the kinds that may have waiting jobs, the next to start first. Usually these are few of possibly
    /// hundreds of kinds.
    private var startOrder: [Int] = []
    /// Claimed jobs by request. Their claims could still be lost if the server crashes.
    private var unconfirmed: [Request.ID: [ClaimedJob]] = [:]
    private var unconfirmedCount = 0
    /// The payload bytes of the jobs that have not ended.
    private(set) var payloadBytes = 0
    private var finished: [FinishedRun] = []
    /// For each claim, how many of its jobs are not settled yet.
    private var unsettled: [Int64: Int] = [:]
    /// Claims whose runs have all finished. The next settle closes them.
    private var closedClaims: [Int64] = []
    /// Claims that must stay open because some of their runs could not be settled.
    private var abandoned: Set<Int64> = []
    /// A lower bound of the deadlines of the running jobs.
    var nextDeadline: Instant?

    init(concurrency: Int, handlers: [(kind: String, settings: HandlerSettings)]) {
        self.concurrency = concurrency
        rotation = handlers.map(\.kind)
        kinds = handlers.map { KindQueue($0.settings, concurrency: $0.settings.concurrency ?? concurrency) }
        hasAdaptiveKinds = handlers.contains { $0.settings.adapt != nil }
        places = Dictionary(handlers.enumerated().map { ($1.kind, $0) }) { first, _ in first }
    }

    /// Whether the worker holds nothing.
    var isEmpty: Bool {
        runningCount == 0 && waitingCount == 0 && unconfirmedCount == 0 && finished.isEmpty && closedClaims.isEmpty
    }

    /// The claims whose jobs this worker knows.
    var knownClaims: [Int64] { unsettled.keys + closedClaims }

    var hasFinished: Bool { !finished.isEmpty || !closedClaims.isEmpty }
    var finishedCount: Int { finished.count }

    /// Whether some kind has failures that are not recorded yet.
    var hasFailures: Bool { kinds.contains(where: \.hasFailures) }

    /// Whether runs of one of these kinds have ended and are not settled.
    func hasFinished(ofAnyOf kinds: [String: Instant]) -> Bool { finished.contains { kinds[$0.kind] != nil } }

    /// What the calls of kinds with an adaptive limit took.
    func measure(_ runs: [FinishedRun]) -> [Settle.MeasuredCalls] {
        guard hasAdaptiveKinds else { return [] }
        var measured: [String: Settle.MeasuredCalls] = [:]
        for run in runs {
            guard let place = places[run.kind], kinds[place].settings.adapt != nil, !run.isProbe,
                ![.released, .unable, .snoozed].contains(run.ending.outcomeClass)
            else { continue }
            var calls = measured[run.kind] ?? Settle.MeasuredCalls(kind: run.kind)
            let ending = run.ending
            calls.calls += 1
            calls.seconds += Double(run.times.run) / 1e9
            if ending.isSlow || [.unavailable, .throttled].contains(ending.outcomeClass) { calls.bad += 1 }
            measured[run.kind] = calls
        }
        return Array(measured.values)
    }

    /// When the next job may start that a rate makes wait, among kinds that have a free slot.
    var nextDueStart: Instant? {
        guard waitingCount > 0, runningCount < concurrency else { return nil }
        return startOrder.lazy.compactMap { kinds[$0].mayStart ? kinds[$0].nextStartsAt : nil }.min()
    }

    // MARK: Claiming

    /// Plans a claim. Each call rotates the order of kinds among equals.
    ///
    /// A kind gets free slots and, beyond them, a few times as many jobs as usually end between two claims, so that
    /// runs and claims do not wait for each other. So a burst is claimed in large batches, while a worker with a slow
    /// handler does not hoard jobs. One slot is left for every other kind that runs nothing, so that a slow kind cannot
    /// take all slots.
    ///
    /// - Parameter batches: How many times the number of runs that end between two claims is taken beyond the free
    ///   slots.
    mutating func planClaim(batches: Int) -> ClaimPlan {
        if !rotation.isEmpty { rotation.append(rotation.removeFirst()) }
        if !startOrder.isEmpty { startOrder.append(startOrder.removeFirst()) }
        let idle = kinds.count { $0.isIdle }
        for place in kinds.indices { kinds[place].updatePace(upTo: Self.mostAhead) }
        let ahead = min(batches * kinds.reduce(0) { $0 + $1.pace }, 2 * Self.mostAhead)
        let held = runningCount + waitingCount + unconfirmedCount
        let isRoom = payloadBytes < Self.mostBytes
        let total = isRoom ? min(max(0, concurrency + ahead - held), max(0, concurrency - held) + Self.mostAhead) : 0
        var plan: [(kind: String, count: Int, concurrency: Int)] = []
        for name in rotation {
            guard let place = places[name], !kinds[place].awaitsVerdict else { continue }
            let kind = kinds[place]
            let own = kind.concurrency + batches * kind.pace - kind.held
            // At most half of the slots are reserved for other kinds that run nothing. An idle kind may always use one
            // of the free slots.
            let reserved = min(kind.isIdle ? idle - 1 : idle, concurrency / 2)
            let count = min(own, max(total - reserved, kind.isIdle ? min(1, total) : 0))
            if count > 0 { plan.append((name, count, kind.concurrency)) }
        }
        return ClaimPlan(kinds: plan, total: total, rotation: rotation)
    }

    /// Whether one of these kinds has no slot left, because of its own or the worker's limit.
    func isFull(forAnyOf names: Set<String>) -> Bool {
        runningCount + waitingCount + unconfirmedCount >= concurrency || payloadBytes >= Self.mostBytes
            || names.contains { name in places[name].map { kinds[$0].held >= kinds[$0].concurrency } ?? false }
    }

    /// Adds the jobs of a claim. They may start after ``confirm(_:askedAt:)``.
    mutating func accept(_ jobs: [ClaimedJob], of request: Request.ID) {
        guard !jobs.isEmpty else { return }
        eachKind(of: jobs) { held, place, run in
            held.kinds[place].unconfirmed += run.count
            held.unsettled[run[run.startIndex].job.lease, default: 0] += run.count
        }
        unconfirmed[request] = jobs
        unconfirmedCount += jobs.count
        payloadBytes += jobs.payloadBytes
    }

    /// Records that the claim of a request, sent at `askedAt`, is durable. Its jobs now wait to be started.
    mutating func confirm(_ request: Request.ID, askedAt: Instant) {
        guard let jobs = unconfirmed.removeValue(forKey: request) else { return }
        unconfirmedCount -= jobs.count
        eachKind(of: jobs) { held, place, run in
            held.kinds[place].unconfirmed -= run.count
            held.waitingCount += run.count
            if !held.startOrder.contains(place) { held.startOrder.append(place) }
            held.kinds[place].endStop(learnedBefore: askedAt)
            held.kinds[place].wait(for: run)
        }
        releaseStopped()
    }

    /// Forgets the unconfirmed claims, because their connection was lost. If they were committed, the database releases
    /// their jobs.
    mutating func forgetUnconfirmed() {
        for jobs in unconfirmed.values {
            payloadBytes -= jobs.payloadBytes
            eachKind(of: jobs) { held, place, run in
                held.kinds[place].unconfirmed -= run.count
                held.unsettled[run[run.startIndex].job.lease] = nil
            }
        }
        unconfirmed = [:]
        unconfirmedCount = 0
    }

    /// Calls `body` with groups of jobs of one claim and kind. Usually one group has all jobs.
    private mutating func eachKind(
        of jobs: [ClaimedJob],
        _ body: (inout HeldJobs, Int, ArraySlice<ClaimedJob>) -> Void
    ) {
        var rest = jobs[...]
        while let first = rest.first {
            let run = rest.prefix { $0.job.isLike(first.job) }
            rest = rest[run.endIndex...]
            guard let place = places[first.job.kind] else { continue }
            body(&self, place, run)
        }
    }

    // MARK: Running

    /// Takes the job to start now, if there is one. It counts as running from now on.
    mutating func nextStart(at now: Instant) -> Start? {
        guard waitingCount > 0, runningCount < concurrency else { return nil }
        var index = 0
        while index < startOrder.count {
            let place = startOrder[index]
            if kinds[place].mayStart, kinds[place].isNextDue(at: now), var job = kinds[place].popNext() {
                if job.maxAttempts == 0 { job.maxAttempts = kinds[place].settings.retry.maxAttempts }
                waitingCount -= 1
                return start(job, of: place, at: now)
            }
            if kinds[place].waitingCount == 0 {
                startOrder.remove(at: index)
            } else {
                index += 1
            }
        }
        return nil
    }

    private mutating func start(_ job: Job, of place: Int, at now: Instant) -> Start {
        kinds[place].running += 1
        runningCount += 1
        lastSerial += 1
        let deadline = now + kinds[place].settings.timeout
        nextDeadline = min(nextDeadline ?? deadline, deadline)
        // The copy has no payload, because a payload may keep the whole answer to its claim in memory.
        var known = job
        known.payload = ""
        let run = Running(
            job: known,
            serial: lastSerial,
            kind: place,
            payloadBytes: job.payloadSource.byteCount,
            start: now,
            deadline: deadline
        )
        let slot = freeSlots.popLast() ?? slots.count
        if slot == slots.count { slots.append(run) } else { slots[slot] = run }
        return Start(job: job, slot: slot, serial: lastSerial, time: now)
    }

    /// Removes a run that has ended. Returns nil if its slot was given up before.
    mutating func ended(slot: Int, serial: Int) -> Running? {
        guard let run = slots[slot], run.serial == serial else {
            lostRuns.remove(serial)
            return nil
        }
        free(slot, run)
        kinds[run.kind].ended += 1
        return run
    }

    private mutating func free(_ slot: Int, _ run: Running) {
        slots[slot] = nil
        freeSlots.append(slot)
        kinds[run.kind].running -= 1
        runningCount -= 1
        payloadBytes -= run.payloadBytes
    }

    /// Frees the slot of a run that ignores its cancellation. The run is settled as if it had ended.
    mutating func giveUp(slot: Int) -> Running? {
        guard let run = slots[slot] else { return nil }
        free(slot, run)
        lostRuns.insert(run.serial)
        return run
    }

    /// Records how a run of a kind ended.
    mutating func record(_ ending: FinishedRun.Ending?, ofKindAt place: Int) { kinds[place].record(ending) }

    /// Adds a run to those to settle, unless its claim was forgotten because the lease was lost.
    ///
    /// - Parameters:
    ///   - job: The job that ran.
    ///   - ending: The ending to record; nil for a success without anything to keep.
    ///   - times: How long the run took.
    ///   - isSettled: Whether the run is settled already, so that only its claim is left to close. Defaults to false.
    mutating func finish(
        _ job: Job,
        _ ending: FinishedRun.Ending?,
        _ times: FinishedRun.Times = .init(),
        isSettled: Bool = false
    ) {
        guard let left = unsettled[job.lease] else { return }
        if !isSettled {
            var run = FinishedRun(job, ending)
            run.times = times
            finished.append(run)
        }
        if left == 1 {
            unsettled[job.lease] = nil
            if abandoned.remove(job.lease) == nil { closedClaims.append(job.lease) }
        } else {
            unsettled[job.lease] = left - 1
        }
    }

    // MARK: Settling

    /// Removes and returns the runs to settle now. If the settle fails, they must be put back.
    mutating func drainFinished(atMost limit: Int = 2 * Self.mostAhead) -> (runs: [FinishedRun], claims: [Int64]) {
        // A claim must only be closed together with the last of its runs.
        guard finished.count <= limit else {
            defer { finished.removeFirst(limit) }
            return (newestOfEachJob(in: Array(finished.prefix(limit))), [])
        }
        defer { (finished, closedClaims) = ([], []) }
        return (newestOfEachJob(in: finished), closedClaims)
    }

    private mutating func newestOfEachJob(in runs: [FinishedRun]) -> [FinishedRun] {
        let newest = runs.newestOfEachJob
        // The runs that were left out will never be recorded.
        if newest.count < runs.count {
            for place in kinds.indices { kinds[place].recorded() }
        }
        return newest
    }

    /// Notes that runs were recorded or given up, so that kinds that waited for this may start jobs again.
    ///
    /// A failure that could not be stored may be recorded as something else, so any end but a success counts.
    ///
    /// - Returns: Whether a kind may start jobs that could not before.
    @discardableResult
    mutating func recorded(_ runs: [FinishedRun]) -> Bool {
        guard hasFailures else { return false }
        var isFreed = false
        for run in runs where !run.isSuccess {
            guard let place = places[run.kind] else { continue }
            let waited = kinds[place].awaitsVerdict
            kinds[place].recorded(failures: 1)
            isFreed = isFreed || (waited && !kinds[place].awaitsVerdict)
        }
        return isFreed
    }

    mutating func putBack(_ runs: [FinishedRun], claims: [Int64]) {
        finished = runs + finished
        closedClaims = claims.filter { abandoned.remove($0) == nil } + closedClaims
    }

    /// Abandons a run that cannot be settled. Its claim stays open, so that the database releases the job when this
    /// worker no longer reports the claim as known.
    mutating func abandon(_ run: FinishedRun) {
        recorded([run])
        if let place = closedClaims.firstIndex(of: run.lease) {
            closedClaims.remove(at: place)
        } else {
            abandoned.insert(run.lease)
        }
    }

    // MARK: Stopping

    /// Releases the waiting jobs of these kinds that were claimed under an earlier generation than the given one.
    ///
    /// - Parameters:
    ///   - stopped: The kinds, with the generations.
    ///   - isComplete: Whether all other kinds may start jobs. Otherwise their state is unchanged.
    ///   - now: The time.
    mutating func stop(kinds stopped: [String: Int64], isComplete: Bool, at now: Instant) {
        for (name, place) in places where isComplete || stopped[name] != nil {
            kinds[place].stop(before: stopped[name], at: now)
        }
        releaseStopped()
    }

    private mutating func releaseStopped() {
        guard kinds.contains(where: \.isStopped) else { return }
        releaseWaiting { $0.stops($1) }
    }

    /// Releases those of some runs that have not started.
    mutating func releaseWaiting(_ runs: Set<RunKey>) { releaseWaiting { runs.contains(RunKey($1)) } }

    /// Releases the jobs that have not started.
    mutating func releaseWaiting() { releaseWaiting { _, _ in true } }

    private mutating func releaseWaiting(where isChosen: (KindQueue, Job) -> Bool) {
        for place in startOrder {
            let kind = kinds[place]
            let released = kinds[place].remove { isChosen(kind, $0) }
            waitingCount -= released.count
            payloadBytes -= released.payloadBytes
            for job in released { finish(job.job, .released) }
        }
    }

    /// Forgets all jobs to start or settle, because they were released to other workers.
    mutating func forgetClaims() {
        forgetUnconfirmed()
        finished = []
        unsettled = [:]
        closedClaims = []
        abandoned = []
        for place in kinds.indices {
            payloadBytes -= kinds[place].remove { _ in true }.payloadBytes
            kinds[place].recorded()
        }
        waitingCount = 0
    }
}
