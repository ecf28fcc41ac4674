/// The jobs of one kind that a worker holds and has not started, and how many of them run.
struct KindQueue {
    typealias Instant = MonotonicClock.Instant

    let settings: HandlerSettings
    let concurrency: Int
    var running = 0
    /// How many jobs belong to claims that could still be lost.
    var unconfirmed = 0
    /// The earliest jobs that are claimed and not started. The last element starts next.
    private var next: [ClaimedJob] = []
    /// Jobs claimed later than those in ``next``, in the order in which they start.
    private var later: [ClaimedJob] = []
    /// Runs that ended since the last claim.
    var ended = 0
    /// How many runs end between two claims: the recent maximum, which shrinks by a quarter with each claim.
    private(set) var pace = 0
    /// The generation of the kind's circuit if that is not closed, or the highest number if the kind is paused. Jobs
    /// that were claimed under an earlier generation do not start.
    private var stoppedBefore = Int64.min
    /// When the worker learned of the stop. The database has already considered it for claims that were sent later.
    private var heardAt: Instant?
    /// The failures since the last success that count for the circuit and are not recorded yet.
    private var failuresInARow = 0
    /// With this many such failures, the kind starts no jobs until they are recorded.
    private let longestStreak: Int

    /// The value of ``longestStreak``, unless the circuit opens after fewer failures.
    private static let defaultStreak = 5

    init(_ settings: HandlerSettings, concurrency: Int) {
        self.settings = settings
        self.concurrency = concurrency
        let circuit = settings.circuit
        longestStreak = circuit.isEnabled ? min(Self.defaultStreak, circuit.consecutiveFailures ?? .max) : .max
    }

    var waitingCount: Int { next.count + later.count }
    /// The number of jobs of this kind that the worker holds.
    var held: Int { running + waitingCount + unconfirmed }
    var isIdle: Bool { held == 0 }
    /// Whether a waiting job may start.
    var mayStart: Bool { running < concurrency && !awaitsVerdict }

    /// When the next job may start, if a rate makes it wait.
    var nextStartsAt: Instant? { (next.last ?? later.first)?.startsAt }

    func isNextDue(at now: Instant) -> Bool { nextStartsAt.map { $0 <= now } ?? true }

    /// Adds jobs of one claim. Usually they are in the order of their lane, and belong after all waiting jobs.
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

    /// Removes and returns some of the waiting jobs.
    mutating func remove(where isChosen: (Job) -> Bool) -> [ClaimedJob] {
        let removed = next.reversed().filter { isChosen($0.job) } + later.filter { isChosen($0.job) }
        guard !removed.isEmpty else { return [] }
        next.removeAll { isChosen($0.job) }
        later.removeAll { isChosen($0.job) }
        return removed
    }

    /// Updates ``pace`` with the number of runs that ended since the last claim. Called when a claim is planned.
    mutating func updatePace(upTo most: Int) {
        pace = max(min(ended, most), pace * 3 / 4)
        ended = 0
    }

    // MARK: Stopping

    /// Whether the kind waits until the database has decided whether its circuit opens. It waits after several failures
    /// in a row. Otherwise a worker would run all jobs that it has claimed ahead against a dependency that is down.
    var awaitsVerdict: Bool { failuresInARow >= longestStreak }

    /// Whether some of its failures are not recorded yet.
    var hasFailures: Bool { failuresInARow > 0 }

    /// Records how a run ended; nil is a success.
    mutating func record(_ ending: FinishedRun.Ending?) {
        guard let ending, !ending.isSuccess else { return failuresInARow = 0 }
        if ending.isFailedCall { failuresInARow += 1 }
    }

    /// Records that failures were stored or given up. By default all of them were.
    mutating func recorded(failures count: Int = .max) { failuresInARow = max(0, failuresInARow - count) }

    /// Stops jobs that were claimed under an earlier generation than the given one. With nil, all jobs may start.
    mutating func stop(before generation: Int64?, at now: Instant) {
        stoppedBefore = generation ?? .min
        heardAt = now
    }

    /// Ends a stop that the worker learned of before `askedAt`, when the claim of newly arrived jobs was sent.
    mutating func endStop(learnedBefore askedAt: Instant) {
        if let heardAt, heardAt <= askedAt { stoppedBefore = .min }
    }

    var isStopped: Bool { stoppedBefore != .min }

    func stops(_ job: Job) -> Bool { job.generation < stoppedBefore }
}
