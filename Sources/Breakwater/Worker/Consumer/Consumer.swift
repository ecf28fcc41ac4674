import Libpq

/// Decides what a worker claims, starts, cancels and settles, and when.
///
/// This is a pure value that takes events and the time, and returns actions. ``ConsumerService`` and ``Engine`` send
/// the requests, run the handlers and pass the results back as events. Each state's comment lists its legal
/// transitions.
struct Consumer {
    typealias Instant = MonotonicClock.Instant

    /// The events that ``Engine`` passes in.
    enum Event {
        /// A connection was established. The results of unanswered requests on the last one are unknown.
        case connected
        /// The connection was lost, and with it the answers to its requests.
        case disconnected
        /// A request, or a half of it, was answered.
        case answered(Request.ID, Answer)
        /// There may be new jobs, of one kind or of any.
        case woken(kind: String?)
        /// A heartbeat that was sent at a certain time was answered.
        case heartbeat(Beat.Output, sent: Instant)
        /// The connection for heartbeats was refused because the database is down for all clients.
        case databaseAbsent
        /// A user has cancelled these runs.
        case cancelRequested(Set<RunKey>)
        /// The worker was deregistered, and its jobs were released to other workers.
        case deregistered
        /// The worker has registered under a new number. The request was sent at this time.
        case registered(worker: Int64, sent: Instant)
        /// A shutdown has begun: the worker must claim and start nothing more.
        case drain
        /// The time that running handlers have after a shutdown has elapsed.
        case graceEnded
        /// Time has passed.
        case tick
    }

    /// The answers of the database.
    enum Answer {
        /// The claim of a request returned these jobs. They must not start yet. Rules hold back jobs of some kinds,
        /// which the worker should claim again after the given times.
        case claimed([ClaimedJob], heldBack: [String: Duration] = [:])
        /// The settle or flush is durable, and so is every earlier claim. If calls failed, the answer also names kinds
        /// that are stopped (see ``Beat/Output/stopped``). Kinds that it does not name may be stopped too.
        case settled(stopped: [String: Int64] = [:])
        /// The server refused the claim of a request, or the whole request.
        case claimRefused(PostgresError)
        /// The server refused to settle.
        case settleRefused(PostgresError)
        /// Jobs were released because their claim was never answered.
        case reconciled(jobs: Int)
        /// These jobs were dead-lettered because no claim could read them.
        case examined(unreadable: [Int64])
        /// The worker's sleep or poll request was recorded.
        case done
    }

    /// The actions that ``Engine`` performs.
    enum Action {
        case send(Request)
        case start(HeldJobs.Start)
        /// Cancel the tasks of these slots.
        case cancel(slots: [Int])
        /// Close the connection, because of this error, and connect again after a pause.
        case reconnect(PostgresError)
        /// Send a tick at this time at the latest.
        case wait(until: Instant)
        /// Log this report.
        case report(Report)
        /// Stop, because nothing is left to do after a shutdown.
        case stop
    }

    /// Events that are logged for people.
    enum Report {
        /// No heartbeat was answered for too long, so this many runs were cancelled.
        case leaseInDoubt(cancelled: Int)
        /// A heartbeat was answered again, in time.
        case leaseRegained
        case reconciled(jobs: Int)
        /// A run still continues long after it was cancelled.
        case unresponsive(HeldJobs.Running)
        /// The slot of such a run is given to other jobs.
        case gaveUp(HeldJobs.Running)
        /// The outcome of a run cannot be stored.
        case cannotRecord(FinishedRun, PostgresError)
        case suspects([Job])
        /// Runs of these jobs are cancelled because a user has cancelled the jobs.
        case cancelled([Job])
        /// Jobs that cannot be read were dead-lettered.
        case unreadable([Int64])
    }

    /// The settings, which do not change.
    struct Settings {
        var queues: [String]
        var handlers: [(kind: String, settings: HandlerSettings)]
        var concurrency: Int
        var lease: Duration
        var pollInterval: Duration
        var listens: Bool

        var kinds: [String] { handlers.map(\.kind) }
    }

    enum Phase: Equatable {
        /// The worker claims and runs jobs. Goes to `draining`.
        case working
        /// The worker runs the jobs that have started, and claims nothing. Goes to `stopped`.
        case draining(since: Instant)
        /// The worker has stopped. This state is final.
        case stopped
    }

    /// How this worker learns of inserts.
    enum WakeUps: Equatable {
        /// The worker claims repeatedly, and inserts send no notification for it. Goes to `asleep` and `polling`.
        case none
        /// Inserts notify the worker. Goes to `none` and `polling`.
        case asleep
        /// The worker polls for these kinds, so that their inserts need to notify no worker. Goes to `none` and
        /// `asleep`.
        case polling(Set<String>, renewAt: Instant, nextLook: Instant)
    }

    /// A request that was not answered completely.
    struct InFlight {
        var request: Request
        var sent: Instant
        /// How many jobs the claim returned, once that is known.
        var claimed: Int?
    }

    /// In a backlog, a second request is sent if the claim of the previous one returned at least this many jobs.
    static let manyJobs = 500
    /// After an exchange with at least this many runs, more runs are collected for the next one, for this long at most.
    static let gatheringRuns = 8
    static let gatheringTime = Duration.milliseconds(10)
    /// After this many claims in a row that found jobs, a worker no longer asks for notifications.
    static let busyClaims = 16
    /// The pause after a search for late jobs, as a multiple of the search's own duration.
    static let lateSearchPause = 20
    /// The shortest pause after a search for late jobs.
    static let leastLateSearchPause = Duration.milliseconds(5)
    /// How long a kind whose jobs are held back by rules is left alone if no claim can include it.
    static let heldBackPause = Duration.milliseconds(250)
    /// A worker that finds jobs at every claim still searches for late jobs, and in all lanes, this often.
    static let longestWideClaimPause = Duration.seconds(1)
    /// A claim that got no answer for this long may include a job that the server cannot read in that time.
    static let suspiciousSilence = Duration.seconds(5)
    /// How long a draining worker that holds nothing waits for a server that does not answer.
    static let longestSilence = Duration.seconds(2)

    let settings: Settings
    /// The id of this worker in `breakwater.worker`. It changes when the worker has lost its lease and registers again.
    var worker: Int64
    var phase = Phase.working
    var held: HeldJobs
    var lanes: ActiveLanes
    var lease: Lease
    var quarantine: Quarantine
    var hotKinds = HotKinds()
    var wakeUps = WakeUps.none
    var isConnected = false
    var inFlight: [InFlight] = []
    private var lastRequest: Request.ID = 0
    /// When the last exchange was sent, and how many runs it settled.
    var lastExchange: (sent: Instant, runs: Int)

    /// Claims whose commit may not be durable yet, with the time they were sent.
    var unconfirmed: [(id: Request.ID, sent: Instant)] = []
    /// Whether this worker is the sole consumer of its kinds and queues, according to the last heartbeat.
    var isSoleConsumer = false
    /// Whether a claim is expected to find nothing.
    var isExhausted = false
    /// The kinds whose jobs are held back by rules, and when to claim each again.
    var heldBack: [String: Instant] = [:]
    /// Whether the next claim includes all lanes, and whether that is to happen as soon as a claim finds nothing.
    var isWide = true
    var isWideIfEmpty = false
    /// When the worker was last woken, and whether for all lanes.
    var lastWakeUp: (at: Instant, isWide: Bool)?
    var claimsWithJobs = 0
    /// Whether the last claim returned as many jobs as it asked for.
    var isBacklog = false
    /// Whether to cancel the worker's notifications, because it is busy.
    var mustCancelNotifications = false
    var nextPoll: Instant
    var nextWideClaim: Instant
    var nextLateSearch: Instant
    /// Whether the last claim returned fewer jobs than it asked for without a search for late jobs.
    var owesLateSearch = false
    var nextReconciliation: Instant
    var claimLimit = ClaimLimit()
    /// The examination to send after a refused claim, because some of its jobs may be unreadable.
    var examination: DeadLetterUnreadable?
    /// The isolation of the runs at fault, after a refused settle.
    var isolation: SettleIsolation?
    /// The number of refused settles in a row, and how often single runs were refused for transient reasons.
    var refusals = 0
    var refusedRuns: [RunKey: Int] = [:]

    init(_ settings: Settings, worker: Int64, registeredAt: Instant) {
        self.settings = settings
        self.worker = worker
        held = HeldJobs(concurrency: settings.concurrency, handlers: settings.handlers)
        lanes = ActiveLanes(queues: settings.queues, kinds: settings.kinds)
        lease = Lease(length: settings.lease, heldSince: registeredAt)
        quarantine = Quarantine(waitLimit: settings.lease, at: registeredAt)
        (nextPoll, nextWideClaim, nextLateSearch) = (registeredAt, registeredAt, registeredAt)
        nextReconciliation = registeredAt
        lastExchange = (registeredAt, 0)
    }

    /// Handles an event.
    ///
    /// - Parameters:
    ///   - event: The event.
    ///   - now: The time.
    /// - Returns: The actions, in this order.
    mutating func handle(_ event: Event, at now: Instant) -> [Action] {
        var actions: [Action] = []
        switch event {
        case .connected: connected(at: now)
        case .disconnected: disconnected(at: now)
        case .answered(let id, let answer): answered(id, answer, at: now, &actions)
        case .woken(let kind): woken(kind: kind, at: now)
        case .databaseAbsent: lease.databaseIsAbsent(at: now)
        case .heartbeat(let answer, let sent): heartbeat(answer, sent: sent, at: now, &actions)
        case .cancelRequested(let runs): cancel(runs, at: now, &actions)
        case .deregistered: deregistered(at: now, &actions)
        case .registered(let worker, let sent): registered(worker, sent: sent)
        case .drain: drain(at: now)
        case .graceEnded: cancel(for: .shutdown, at: now, &actions)
        case .tick: break
        }
        checkTime(at: now, &actions)
        startJobs(at: now, &actions)
        sendRequests(at: now, &actions)
        if let end = timeToStop(at: now), end <= now {
            phase = .stopped
            actions.append(.stop)
        }
        if phase != .stopped { actions.append(.wait(until: nextTick(after: now))) }
        return actions
    }

    /// Records that a run has ended. This is like an event, but efficient enough to be called once for each job.
    ///
    /// - Parameters:
    ///   - start: The run.
    ///   - times: How long the run took.
    ///   - now: The time.
    ///   - isSettled: Whether the plugin has settled the run. Defaults to false.
    ///   - judge: Returns the ending to record, given the reason of the run's cancellation, if any; nil for a plain
    ///     success.
    /// - Returns: Whether the end counts (the slot may have been given up), the job that the same task runs next, and
    ///   the actions.
    mutating func ended(
        _ start: HeldJobs.Start,
        _ times: FinishedRun.Times,
        at now: Instant,
        isSettled: Bool = false,
        _ judge: (HeldJobs.CancelReason?) -> FinishedRun.Ending?
    ) -> (counts: Bool, next: HeldJobs.Start?, actions: [Action]) {
        guard let run = held.ended(slot: start.slot, serial: start.serial) else { return (false, nil, []) }
        let ending = judge(run.cancelReason)
        held.record(ending, ofKindAt: run.kind)
        held.finish(start.job, ending, times, isSettled: isSettled)
        // The run has made room for jobs that rules hold back.
        if isSettled, heldBack[start.job.kind] != nil { isExhausted = false }
        // A task that was or will be cancelled must not run another job, which would be cancelled too.
        let next = run.cancelReason == nil && mayStart(at: now) ? held.nextStart(at: now) : nil
        // While a request is in flight, ended runs are collected for the next one.
        let isCollected = (!inFlight.isEmpty || isGathering(at: now)) && phase == .working && run.cancelReason == nil
        return (true, next, isCollected ? [] : handle(.tick, at: now))
    }

    /// Whether a run that was started may still begin, because its task may have waited for a thread.
    func mayBegin(_ start: HeldJobs.Start, at now: Instant) -> Bool {
        guard lease.isSure(at: now), let run = held.slots[start.slot], run.serial == start.serial else { return false }
        return run.cancelReason == nil
    }

    func mayStart(at now: Instant) -> Bool { phase == .working && lease.isSure(at: now) }

    private mutating func startJobs(at now: Instant, _ actions: inout [Action]) {
        guard mayStart(at: now) else { return }
        while let start = held.nextStart(at: now) { actions.append(.start(start)) }
    }

    mutating func nextRequest(_ work: Request.Work, at now: Instant) -> Action {
        lastRequest += 1
        let request = Request(id: lastRequest, work: work)
        inFlight.append(InFlight(request: request, sent: now))
        return .send(request)
    }

    /// When the next tick is needed.
    private func nextTick(after now: Instant) -> Instant {
        // Without a request to send, only an event can create more work.
        var next = now + settings.pollInterval
        if let end = timeToStop(at: now) { next = min(next, end) }
        if isConnected, inFlight.isEmpty, isGathering(at: now) {
            next = min(next, lastExchange.sent + Self.gatheringTime, nextReconciliation)
        } else if isConnected, inFlight.isEmpty {
            next = min(next, nextPoll)
            if owesLateSearch || (!isExhausted && phase == .working) { next = min(next, max(nextLateSearch, now)) }
            if settings.listens, wakeUps == .none { next = min(next, max(nextWideClaim, now)) }
            next = min(next, nextReconciliation)
            if let due = heldBack.values.min(), phase == .working { next = min(next, due) }
            if case .polling(_, let renewAt, let nextLook) = wakeUps { next = min(next, renewAt, nextLook) }
        }
        if lease.isHeld { next = min(next, lease.sureUntil + .milliseconds(1)) }
        if let deadline = held.nextDeadline { next = min(next, deadline) }
        if phase == .working, let due = held.nextDueStart { next = min(next, due) }
        return max(next, now + .milliseconds(1))
    }
}
