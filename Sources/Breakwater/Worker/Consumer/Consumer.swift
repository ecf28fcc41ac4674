import Libpq

/// Decides what a worker claims, starts, cancels and settles, and when.
///
/// A pure value: events and the time go in, actions come out. Its shell, ``ConsumerService`` and ``Engine``, sends the
/// requests, runs the handlers and tells it what happened. Each state's comment says where it may go.
struct Consumer {
    typealias Instant = MonotonicClock.Instant

    /// What the shell is told.
    enum Event {
        /// A connection stands. Of what was asked over the last one, nothing is known.
        case connected
        /// The connection is lost, and with it the answers to what was asked.
        case disconnected
        /// The answer to a request, or to a half of it.
        case answered(Request.ID, Answer)
        /// There may be jobs: of a kind, or of any.
        case woken(kind: String?)
        /// A heartbeat that was sent at a certain time was answered.
        case heartbeat(Beat.Output, sent: Instant)
        /// The connection for heartbeats was refused because the database is away: it serves nobody now.
        case databaseAbsent
        /// Others have this worker's jobs now.
        case struckOff
        /// It has registered under a new number; asked at a certain time.
        case registered(worker: Int64, sent: Instant)
        /// Shut down: claim and start nothing more.
        case drain
        /// The time that running handlers may take after that is over.
        case graceEnded
        /// Some time has passed.
        case tick
    }

    /// What the database said.
    enum Answer {
        /// The claim of a request gave these jobs. They may not start yet.
        case claimed([ClaimedJob])
        /// What was to be settled or flushed is durable, and so is every claim before it. Where calls failed it also
        /// says which kinds are stopped (see ``Beat/Output/stopped``); kinds it does not name may be stopped too.
        case settled(stopped: [String: Int64] = [:])
        /// The server refused the claim of a request, or the whole request.
        case claimRefused(PostgresError)
        /// The server refused to settle.
        case settleRefused(PostgresError)
        /// Some jobs were given back whose claim was never answered.
        case reconciled(jobs: Int)
        /// These jobs, which no claim could hand out, are dead letters now.
        case examined(unreadable: [Int64])
        /// This worker will be woken, or others know that it polls.
        case done
    }

    /// What the shell is to do.
    enum Action {
        case send(Request)
        case start(HeldJobs.Start)
        /// Cancel the tasks of these slots.
        case cancel(slots: [Int])
        /// Close the connection, because of this error, and connect again after a pause.
        case reconnect(PostgresError)
        /// Come back with a tick at this time at the latest.
        case wait(until: Instant)
        /// Tell people.
        case report(Report)
        /// Nothing is left to do after a shutdown.
        case stop
    }

    /// What people should know.
    enum Report {
        /// No heartbeat was answered for too long; so many runs are cancelled.
        case leaseInDoubt(cancelled: Int)
        /// A heartbeat was answered again, in time.
        case leaseRegained
        case reconciled(jobs: Int)
        /// A run goes on long after it was cancelled.
        case unresponsive(HeldJobs.Running)
        /// Its slot is given to other jobs.
        case gaveUp(HeldJobs.Running)
        /// The outcome of a run cannot be stored.
        case cannotRecord(FinishedRun, PostgresError)
        case suspects([Job])
        /// Jobs that cannot be read were dead-lettered.
        case unreadable([Int64])
    }

    /// What does not change.
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
        /// Claims and runs. Goes to `draining`.
        case working
        /// Runs what has started; claims nothing. Goes to `stopped`.
        case draining(since: Instant)
        /// The end.
        case stopped
    }

    /// How this worker hears of inserts.
    enum WakeUps: Equatable {
        /// It polls; inserts notify nobody for its sake. Goes to `asleep` and `polling`.
        case none
        /// Inserts wake it. Goes to `none` and `polling`.
        case asleep
        /// It looks for these kinds by itself, and others rely on it. Goes to `none` and `asleep`.
        case polling(Set<String>, renewAt: Instant, nextLook: Instant)
    }

    /// A request that was not answered in full.
    struct InFlight {
        var request: Request
        var sent: Instant
        /// How many jobs its claim gave, once that is known.
        var claimed: Int?
    }

    /// In a backlog, a second request is sent when the claim of the one before gave at least so many jobs.
    static let manyJobs = 500
    /// After so many claims in a row that found jobs, a worker no longer asks to be woken.
    static let busyClaims = 16
    /// A look for late jobs is followed by this many times its own duration without one,
    static let lateLookPause = 20
    /// and at least by this.
    static let leastLateLookPause = Duration.milliseconds(5)
    /// A worker that finds jobs at every claim looks for late ones, and into all lanes, this often nevertheless.
    static let longestBlindness = Duration.seconds(1)
    /// A claim that got no answer for this long may have met a job that the server cannot read in that time.
    static let suspiciousSilence = Duration.seconds(5)
    /// A draining worker that holds nothing waits this long for the answers of a silent server.
    static let longestSilence = Duration.seconds(2)

    let settings: Settings
    /// This worker's row in `breakwater.worker`; it changes when the lease was lost and the worker registers anew.
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

    /// Claims whose commit may not be durable yet, with the time they were sent.
    var unconfirmed: [(id: Request.ID, sent: Instant)] = []
    /// Whether no other worker takes jobs of the same kinds and queues, as far as the last heartbeat knows.
    var isSoleConsumer = false
    /// Whether a claim would find nothing, as far as is known.
    var isExhausted = false
    /// Whether the next claim asks all lanes, and whether that is due as soon as a claim finds nothing.
    var isWide = true
    var isWideIfEmpty = false
    var claimsWithJobs = 0
    /// Whether the last claim gave all that it asked for.
    var isBacklog = false
    /// Whether it is to ask for no more wake-ups.
    var isTooBusyToBeWoken = false
    var nextPoll: Instant
    var nextWideClaim: Instant
    var nextLateLook: Instant
    /// Whether the last claim came back short without having looked for late jobs.
    var owesLateLook = false
    var nextReconciliation: Instant
    var claimLimit = ClaimLimit()
    /// After a refused claim: among the jobs that it asked for there may be some that cannot be read.
    var examination: DeadLetterUnreadable?
    /// After a refused batch.
    var isolation: SettleIsolation?
    /// Settles that the server refused, in a row, and runs that it refused by themselves for reasons that may pass.
    var refusals = 0
    var refusedRuns: [HeldJobs.RunKey: Int] = [:]

    init(_ settings: Settings, worker: Int64, registeredAt: Instant) {
        self.settings = settings
        self.worker = worker
        held = HeldJobs(concurrency: settings.concurrency, handlers: settings.handlers)
        lanes = ActiveLanes(queues: settings.queues, kinds: settings.kinds)
        lease = Lease(length: settings.lease, heldSince: registeredAt)
        quarantine = Quarantine(patience: settings.lease, at: registeredAt)
        (nextPoll, nextWideClaim, nextLateLook) = (registeredAt, registeredAt, registeredAt)
        nextReconciliation = registeredAt
    }

    /// Takes in an event.
    ///
    /// - Parameters:
    ///   - event: What happened.
    ///   - now: The time.
    /// - Returns: What to do, in this order.
    mutating func handle(_ event: Event, at now: Instant) -> [Action] {
        var actions: [Action] = []
        switch event {
        case .connected: connected(at: now)
        case .disconnected: disconnected(at: now)
        case .answered(let id, let answer): answered(id, answer, at: now, &actions)
        case .woken(let kind): woken(kind: kind, at: now)
        case .databaseAbsent: lease.databaseIsAbsent(at: now)
        case .heartbeat(let answer, let sent): heartbeat(answer, sent: sent, at: now, &actions)
        case .struckOff: struckOff(at: now, &actions)
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

    /// A run has ended. The same as an event, but made for what happens once for each job.
    ///
    /// - Parameters:
    ///   - start: The run.
    ///   - times: How long it took.
    ///   - now: The time.
    ///   - judge: What is recorded of it, given why it was cancelled, if it was; nil for a plain success.
    /// - Returns: Whether its end counts (its slot may have been given up), what the same task runs next, and what to
    ///   do.
    mutating func ended(
        _ start: HeldJobs.Start,
        _ times: FinishedRun.Times,
        at now: Instant,
        _ judge: (HeldJobs.CancelReason?) -> FinishedRun.Ending?
    ) -> (counts: Bool, next: HeldJobs.Start?, actions: [Action]) {
        guard let run = held.ended(slot: start.slot, serial: start.serial) else { return (false, nil, []) }
        let ending = judge(run.cancelReason)
        held.record(ending, ofKindAt: run.kind)
        held.finish(start.job, ending, times)
        // A task that was cancelled, or is about to be, would carry that over.
        let next = run.cancelReason == nil && mayStart(at: now) ? held.nextStart(at: now) : nil
        // While a request is under way, ended runs gather for the next.
        let isGathering = !inFlight.isEmpty && phase == .working && run.cancelReason == nil
        return (true, next, isGathering ? [] : handle(.tick, at: now))
    }

    /// Whether a run that was started may begin, when its task got its thread some time after that.
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

    /// When something is due by itself.
    private func nextTick(after now: Instant) -> Instant {
        // With no request to send, only an event brings more to do.
        var next = now + settings.pollInterval
        if let end = timeToStop(at: now) { next = min(next, end) }
        if isConnected, inFlight.isEmpty {
            next = min(next, nextPoll)
            if owesLateLook || (!isExhausted && phase == .working) { next = min(next, max(nextLateLook, now)) }
            if settings.listens, wakeUps == .none { next = min(next, max(nextWideClaim, now)) }
            next = min(next, nextReconciliation)
            if case .polling(_, let renewAt, let nextLook) = wakeUps { next = min(next, renewAt, nextLook) }
        }
        if lease.isHeld { next = min(next, lease.sureUntil + .milliseconds(1)) }
        if let deadline = held.nextDeadline { next = min(next, deadline) }
        return max(next, now + .milliseconds(1))
    }
}
