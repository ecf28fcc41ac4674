/// The jobs of one kind that a worker holds and has not started, and how many of them run.
struct KindQueue {
    typealias Instant = MonotonicClock.Instant

    let settings: HandlerSettings
    let concurrency: Int
    var running = 0
    /// Claimed, but the claim could still be lost.
    var unconfirmed = 0
    /// Claimed and not started: of those claimed first, the next to start last.
    private var next: [ClaimedJob] = []
    /// Claimed later than those, the first to start first.
    private var later: [ClaimedJob] = []
    /// Runs that ended since the last claim.
    var ended = 0
    /// How many runs end from one claim to the next: this often lately, and a quarter less with each claim.
    private(set) var pace = 0
    /// Its circuit opened with this generation (or it is paused, and this is the highest number): nothing that was claimed
    /// under an earlier one starts.
    private var stoppedBefore = Int64.min
    /// When that was heard. Whatever is claimed later was given by a database that knew better.
    private var heardAt: Instant?
    /// The failures since the last success that the circuit will count and that are not recorded yet.
    private var failuresInARow = 0
    /// The number of such failures that holds up the kind until they are recorded.
    private let longestStreak: Int

    /// For ``longestStreak``, where its circuit does not open after fewer.
    private static let defaultStreak = 5

    init(_ settings: HandlerSettings, concurrency: Int) {
        self.settings = settings
        self.concurrency = concurrency
        let circuit = settings.circuit
        longestStreak = circuit.isEnabled ? min(Self.defaultStreak, circuit.consecutiveFailures ?? .max) : .max
    }

    var waitingCount: Int { next.count + later.count }
    /// How many jobs the worker has of it.
    var held: Int { running + waitingCount + unconfirmed }
    var isIdle: Bool { held == 0 }
    /// Whether one of those that wait may start.
    var mayStart: Bool { running < concurrency && !awaitsVerdict }

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

    /// A claim is planned: takes note of how many runs ended since the last one.
    mutating func keepPace(upTo most: Int) {
        pace = max(min(ended, most), pace * 3 / 4)
        ended = 0
    }

    // MARK: Stopping

    /// Whether the kind waits for the database to say whether its circuit opened. It does after several failures in a row.
    /// Otherwise a worker would run all the jobs that it has claimed ahead against a dependency that is down.
    var awaitsVerdict: Bool { failuresInARow >= longestStreak }

    /// Whether some of its failures are not recorded yet.
    var hasFailures: Bool { failuresInARow > 0 }

    /// Takes note of how a run ended; nil is a success.
    mutating func note(_ ending: FinishedRun.Ending?) {
        guard let ending, !ending.isSuccess else { return failuresInARow = 0 }
        if ending.isFailedCall { failuresInARow += 1 }
    }

    /// Some failures are recorded, or given up. By default all of them are.
    mutating func recorded(failures count: Int = .max) { failuresInARow = max(0, failuresInARow - count) }

    /// Nothing that was claimed under a generation before the given one starts any more; nil: everything may.
    mutating func stop(before generation: Int64?, at now: Instant) {
        stoppedBefore = generation ?? .min
        heardAt = now
    }

    /// Jobs come whose claim was sent at a certain time: what was heard before it counts no more.
    mutating func heard(before askedAt: Instant) {
        if let heardAt, heardAt <= askedAt { stoppedBefore = .min }
    }

    var isStopped: Bool { stoppedBefore != .min }

    func stops(_ job: Job) -> Bool { job.generation < stoppedBefore }
}
