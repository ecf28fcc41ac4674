/// What one worker holds: jobs claimed and not started, jobs running, and runs that wait to be settled.
///
/// A pure value: it decides, and its owner acts. A job goes `waiting → running → finished → gone`; a waiting job that
/// is not to run (shutdown, an open circuit, a lost lease) goes straight to `finished`, released.
struct Dispatcher {
    /// A claim takes at most so many jobs beyond the slots that are free.
    static let mostAhead = 3000

    /// One run of one job.
    struct RunKey: Hashable {
        var id: Int64
        var lease: Int64
    }

    /// Why a run was cancelled from outside, which decides what its end means.
    enum CancelReason {
        case timeout, shutdown, leaseLost
    }

    struct Running {
        var kind: Int
        var start: Moment
        var deadline: Moment
        var cancelReason: CancelReason?
        var task: Task<Void, Never>?
    }

    private struct Kind {
        var settings: HandlerSettings
        var concurrency: Int
        var running = 0
        /// Claimed and not started: of those claimed first, the next to start last.
        private var next: [ClaimedJob] = []
        /// Claimed later than those, the first to start first.
        private var later: [ClaimedJob] = []
        /// Runs that ended since the last claim.
        var ended = 0
        /// How many runs end from one claim to the next: this often lately, and a quarter less with each claim.
        var pace = 0
        /// Its circuit opened with this generation (or it is paused, and this is the highest number): nothing that was
        /// claimed under an earlier one starts.
        var stoppedBefore = Int64.min
        /// When that was heard. Whatever is claimed later was given by a database that knew better.
        var heardAt: Moment?

        init(_ settings: HandlerSettings, concurrency: Int) {
            self.settings = settings
            self.concurrency = concurrency
        }

        var waitingCount: Int { next.count + later.count }
        var isIdle: Bool { running == 0 && waitingCount == 0 }

        /// Takes in jobs of one claim, which mostly come in the order of their lane, and behind all that wait.
        mutating func wait(for jobs: some RandomAccessCollection<ClaimedJob>) {
            let isSorted = zip(jobs, jobs.dropFirst()).allSatisfy { $0.startsBefore($1) }
            let isBehind = jobs.first.flatMap { first in (later.last ?? next.first)?.startsBefore(first) } ?? true
            later += jobs
            guard !isSorted || !isBehind else { return }
            later += next
            next = []
            later.sort { $0.startsBefore($1) }
        }

        mutating func popNext() -> Job? {
            if next.isEmpty {
                swap(&next, &later)
                next.reverse()
            }
            return next.popLast()?.job
        }

        /// Takes out some that wait.
        mutating func remove(where isChosen: (Job) -> Bool) -> [ClaimedJob] {
            let removed = next.reversed().filter { isChosen($0.job) } + later.filter { isChosen($0.job) }
            guard !removed.isEmpty else { return [] }
            next.removeAll { isChosen($0.job) }
            later.removeAll { isChosen($0.job) }
            return removed
        }

        mutating func keepPace() {
            pace = max(min(ended, Dispatcher.mostAhead), pace * 3 / 4)
            ended = 0
        }
    }

    enum Phase {
        /// Claims and runs. Goes to `draining`.
        case working
        /// Runs what has started; claims nothing. The end.
        case draining
    }

    let concurrency: Int
    private(set) var phase = Phase.working
    /// False while this worker may have lost its lease: nothing is claimed or started.
    private(set) var holdsLease = true
    /// Three quarters of the lease after the last answered beat: until then nobody else can have this worker's jobs. Later
    /// nothing starts, whether anybody has noticed or not: a process that was stopped for a while finds out only by
    /// looking at the clock.
    private var isSureUntil: Moment
    private let lease: Duration
    private var kinds: [Kind]
    /// For each kind's name, its place among the kinds.
    private let places: [String: Int]
    private var rotation: [String]
    private(set) var running: [RunKey: Running] = [:]
    private var waitingCount = 0
    /// The places of the kinds that may have waiting jobs, the next to start first: few, where there may be hundreds.
    private var startOrder: [Int] = []
    private var finished: [FinishedRun] = []
    /// For each claim, how many of its jobs are not settled yet.
    private var unsettled: [Int64: Int] = [:]
    /// Claims of which everything is finished, to be struck off by the next settle.
    private var closedClaims: [Int64] = []
    /// Claims with runs that could not be settled, not to be struck off.
    private var abandoned: Set<Int64> = []

    init(concurrency: Int, handlers: [HandlerRegistration], lease: Duration, heldSince start: Moment) {
        self.concurrency = concurrency
        self.lease = lease
        isSureUntil = start + lease * 3 / 4
        rotation = handlers.map(\.kind)
        kinds = handlers.map { Kind($0.settings, concurrency: $0.settings.concurrency ?? concurrency) }
        places = Dictionary(handlers.enumerated().map { ($1.kind, $0) }) { first, _ in first }
    }

    /// Whether nothing is held any more.
    var isEmpty: Bool { running.isEmpty && waitingCount == 0 && finished.isEmpty && closedClaims.isEmpty }

    /// Whether it may take a job that must run alone: nothing is held, and there is no reason to take nothing.
    var isFree: Bool { isEmpty && phase == .working && holdsLease }

    /// Claims whose jobs this worker knows of.
    var knownClaims: [Int64] { unsettled.keys + closedClaims }

    // MARK: Claiming

    struct Room {
        var kinds: [(kind: String, count: Int, concurrency: Int)]
        var total: Int
        /// The kinds in the order in which equals are asked.
        var rotation: [String]
    }

    /// How many jobs to claim. Each call lets another kind go first among equals.
    ///
    /// A kind takes free slots, and ahead of them twice as many jobs as end from one claim to the next (three times, while
    /// others are coming): some run while the next are claimed, and neither waits for the other. So a burst is taken in large batches, while a slow
    /// handler's worker hoards nothing. One slot is left to every other kind that runs nothing, so that a slow kind
    /// cannot take them all.
    ///
    /// - Parameters:
    ///   - coming: For each kind, how many jobs have been claimed that are not here yet.
    ///   - takesAny: False while the worker makes itself free for a job that must run alone.
    mutating func room(coming: [String: Int] = [:], takesAny: Bool = true) -> Room {
        guard phase == .working, holdsLease, takesAny else { return Room(kinds: [], total: 0, rotation: rotation) }
        if !rotation.isEmpty { rotation.append(rotation.removeFirst()) }
        if !startOrder.isEmpty { startOrder.append(startOrder.removeFirst()) }
        let idle = places.count { kinds[$1].isIdle && coming[$0] == nil }
        for place in kinds.indices { kinds[place].keepPace() }
        let batches = coming.isEmpty ? 2 : 3
        let ahead = min(batches * kinds.reduce(0) { $0 + $1.pace }, 2 * Self.mostAhead)
        let held = running.count + waitingCount + coming.values.reduce(0, +)
        let total = min(max(0, concurrency + ahead - held), max(0, concurrency - held) + Self.mostAhead)
        var room: [(kind: String, count: Int, concurrency: Int)] = []
        for name in rotation {
            guard let place = places[name] else { continue }
            let kind = kinds[place]
            let isIdle = kind.isIdle && coming[name] == nil
            let own =
                kind.concurrency + batches * kind.pace - kind.running - kind.waitingCount - coming[name, default: 0]
            // Half of the slots at most are kept for other kinds that run nothing. An idle kind may always have one of
            // the free slots.
            let reserved = min(isIdle ? idle - 1 : idle, concurrency / 2)
            let count = min(own, max(total - reserved, isIdle ? min(1, total) : 0))
            if count > 0 { room.append((name, count, kind.concurrency)) }
        }
        return Room(kinds: room, total: total, rotation: rotation)
    }

    /// Whether one of these kinds has no slot left, its own or the worker's.
    func isFull(forAnyOf names: Set<String>) -> Bool {
        running.count + waitingCount >= concurrency
            || names.contains { name in
                places[name].map { kinds[$0].running + kinds[$0].waitingCount >= kinds[$0].concurrency } ?? false
            }
    }

    /// Takes in what a claim gave that was sent at a certain time.
    mutating func accept(_ jobs: [ClaimedJob], askedAt: Moment) {
        var rest = jobs[...]
        while let first = rest.first {
            // Mostly all of them are of one claim and one kind.
            let run = rest.prefix { $0.job.isLike(first.job) }
            rest = rest[run.endIndex...]
            guard let place = places[first.job.kind] else { continue }
            unsettled[first.job.lease, default: 0] += run.count
            waitingCount += run.count
            if !startOrder.contains(place) { startOrder.append(place) }
            if let heardAt = kinds[place].heardAt, heardAt <= askedAt { kinds[place].stoppedBefore = .min }
            kinds[place].wait(for: run)
        }
        if phase == .draining || !holdsLease {
            releaseWaiting { _, _ in true }
        } else {
            releaseStopped()
        }
    }

    // MARK: Running

    /// The jobs to start now; they count as running from here on.
    mutating func startable(at now: Moment, atMost limit: Int = .max) -> [Job] {
        var jobs: [Job] = []
        while jobs.count < limit, let job = nextStartable(at: now) { jobs.append(job) }
        return jobs
    }

    /// The job to start now, if there is one; it counts as running from here on.
    mutating func nextStartable(at now: Moment) -> Job? {
        guard phase == .working, isSure(at: now), waitingCount > 0, running.count < concurrency else { return nil }
        var index = 0
        while index < startOrder.count {
            let place = startOrder[index]
            if kinds[place].running < kinds[place].concurrency, var job = kinds[place].popNext() {
                if job.maxAttempts == 0 { job.maxAttempts = kinds[place].settings.retry.maxAttempts }
                kinds[place].running += 1
                waitingCount -= 1
                running[RunKey(id: job.id, lease: job.lease)] =
                    Running(kind: place, start: now, deadline: now + kinds[place].settings.timeout)
                return job
            }
            if kinds[place].waitingCount == 0 {
                startOrder.remove(at: index)
            } else {
                index += 1
            }
        }
        return nil
    }

    /// Whether a run that was started may begin, when its task got its thread some time after that.
    func mayBegin(_ key: RunKey, at now: Moment) -> Bool {
        guard isSure(at: now), let run = running[key] else { return false }
        return run.cancelReason == nil
    }

    mutating func started(_ key: RunKey, as task: Task<Void, Never>) {
        running[key]?.task = task
    }

    /// Takes a run out of the running ones.
    mutating func ended(_ key: RunKey) -> Running? {
        guard let run = running.removeValue(forKey: key) else { return nil }
        kinds[run.kind].running -= 1
        kinds[run.kind].ended += 1
        return run
    }

    /// Puts a run's end among those to be settled, unless its claim was forgotten with the lease.
    ///
    /// - Parameters:
    ///   - job: The job that ran.
    ///   - ending: What is recorded of its outcome; nil for a success with nothing to keep of it.
    ///   - times: How long it took.
    mutating func finish(_ job: Job, _ ending: FinishedRun.Ending?, _ times: FinishedRun.Times = .init()) {
        guard let left = unsettled[job.lease] else { return }
        var run = FinishedRun(job, ending)
        run.times = times
        finished.append(run)
        if left == 1 {
            unsettled[job.lease] = nil
            if abandoned.remove(job.lease) == nil { closedClaims.append(job.lease) }
        } else {
            unsettled[job.lease] = left - 1
        }
    }

    /// How many jobs of a kind run, and how many are claimed and not started.
    struct Occupancy {
        var kind: String
        var running: Int
        var waiting: Int
    }

    var occupancy: [Occupancy] {
        places.map { Occupancy(kind: $0, running: kinds[$1].running, waiting: kinds[$1].waitingCount) }
    }

    // MARK: Settling

    /// What to settle now. It is gone from here; after a failure it must be put back.
    mutating func takeFinished(atMost limit: Int = 2 * Self.mostAhead) -> (runs: [FinishedRun], claims: [Int64]) {
        // A claim may be struck off only together with the last of its runs.
        guard finished.count <= limit else {
            defer { finished.removeFirst(limit) }
            return (Array(finished.prefix(limit)).newestOfEachJob, [])
        }
        defer { (finished, closedClaims) = ([], []) }
        return (finished.newestOfEachJob, closedClaims)
    }

    mutating func putBack(_ runs: [FinishedRun], claims: [Int64]) {
        finished = runs + finished
        closedClaims = claims.filter { abandoned.remove($0) == nil } + closedClaims
    }

    /// Leaves a run that cannot be settled to the database: its claim is not struck off, so that the job is given back when
    /// this worker no longer knows of the claim.
    mutating func abandon(_ run: FinishedRun) {
        if let place = closedClaims.firstIndex(of: run.lease) {
            closedClaims.remove(at: place)
        } else {
            abandoned.insert(run.lease)
        }
    }

    var hasFinished: Bool { !finished.isEmpty || !closedClaims.isEmpty }

    // MARK: Stopping

    /// Of these kinds, nothing that was claimed under a generation before the given one starts any more; it is released.
    mutating func stop(kinds stopped: [String: Int64], at now: Moment) {
        for (name, place) in places {
            kinds[place].stoppedBefore = stopped[name] ?? .min
            kinds[place].heardAt = now
        }
        releaseStopped()
    }

    private mutating func releaseStopped() {
        guard kinds.contains(where: { $0.stoppedBefore != .min }) else { return }
        releaseWaiting { $1.generation < $0.stoppedBefore }
    }

    /// Claims and starts nothing any more; what has not started is released.
    mutating func drain() {
        phase = .draining
        releaseWaiting { _, _ in true }
    }

    private mutating func releaseWaiting(where isChosen: (Kind, Job) -> Bool) {
        for place in startOrder {
            let kind = kinds[place]
            let released = kinds[place].remove { isChosen(kind, $0) }
            waitingCount -= released.count
            for job in released { finish(job.job, .released) }
        }
    }

    /// Marks runs as cancelled for a reason, and returns the tasks to cancel. A reason given earlier stays.
    mutating func cancel(
        for reason: CancelReason,
        where isChosen: (Running) -> Bool = { _ in true }
    ) -> [Task<Void, Never>] {
        var tasks: [Task<Void, Never>] = []
        for (key, run) in running where run.cancelReason == nil && isChosen(run) {
            running[key]?.cancelReason = reason
            if let task = run.task { tasks.append(task) }
        }
        return tasks
    }

    /// Whether it is certain that nobody else has this worker's jobs.
    func isSure(at now: Moment) -> Bool { holdsLease && now <= isSureUntil }

    /// The lease may have ended: nothing goes on until `regainLease`.
    mutating func loseLease() {
        holdsLease = false
        releaseWaiting { _, _ in true }
    }

    /// The lease was held when this beat was sent, which is earlier than when the database saw it.
    mutating func regainLease(asOf sent: Moment) {
        holdsLease = true
        isSureUntil = sent + lease * 3 / 4
    }

    /// Others have this worker's jobs now: forgets whatever was to be settled.
    mutating func forgetClaims() {
        finished = []
        unsettled = [:]
        closedClaims = []
        abandoned = []
        for place in kinds.indices { _ = kinds[place].remove { _ in true } }
        waitingCount = 0
    }
}

extension [FinishedRun] {
    /// A job that was lost and claimed again may be here twice: only its newest lease can still matter, and a settle names
    /// each job once.
    fileprivate var newestOfEachJob: [FinishedRun] {
        var names = Set<Int64>(minimumCapacity: count)
        for run in self { names.insert(run.id) }
        guard names.count < count else { return self }
        names = []
        return reversed().filter { names.insert($0.id).inserted }
    }
}
