import Libpq
import Logging
import Synchronization

/// The state that the services of one worker share: the consumer behind a lock, and the actions for the services to
/// perform.
///
/// It decides nothing. It passes events to the ``Consumer`` and performs the actions that the consumer returns.
final class Engine: Sendable {
    fileprivate struct State {
        var consumer: Consumer
        /// The task in each slot.
        var tasks: [Task<Void, Never>?] = []
        /// The requests for the connection that claims.
        var requests: [Request] = []
        var fault: PostgresError?
        /// When the consumer wants a tick.
        var nextTick: MonotonicClock.Instant
        /// Whether a heartbeat is to be sent early, to learn which kinds are stopped.
        var isHeartbeatRequested = false
    }

    /// A registered handler as a reference type, which is cheap to copy.
    final class Handler: Sendable {
        let plugin: any HandlerPlugin
        let settings: HandlerSettings
        let timeout: Duration
        /// The duration at which a run counts as slow.
        private let slowCall: Duration?
        /// Whether the times of its runs decide how many run at once.
        let isAdaptive: Bool
        private let keepsResults: Bool
        /// Whether the plugin settles its successful runs itself.
        let settlesRuns: Bool
        /// Whether its runs suspend while they wait.
        let suspends: Bool

        init(_ registration: HandlerRegistration) {
            plugin = registration.plugin
            settings = registration.settings
            timeout = settings.timeout
            slowCall = settings.circuit.slowCall
            isAdaptive = settings.adapt != nil
            keepsResults = settings.keepResults > .zero
            settlesRuns = plugin is any SettlingPlugin
            suspends = plugin is any SuspendingPlugin
        }

        /// Whether a success is recorded with more than the fact that the run succeeded.
        func isNotable(successAfter duration: Duration) -> Bool {
            keepsResults || slowCall.map { duration >= $0 } ?? false
        }

        /// The ending to record for a success; nil if it is a plain one.
        func successEnding(result: String?, of job: Job, after duration: Duration) -> FinishedRun.Ending? {
            guard isNotable(successAfter: duration) else { return nil }
            return FinishedRun.Ending(.succeeded(result: result), of: job, duration: duration, settings: settings)
        }
    }

    let configuration: WorkerConfiguration
    let clock: any WorkerClock
    let loggers: WorkerLoggers
    let metrics: WorkerMetrics
    let health: WorkerHealth
    /// The tracer of runs; nil if tracing is not set up.
    let tracer: RunTracer?
    /// The handlers by kind.
    let handlers: [String: Handler]
    /// Tracks which calls are unanswered, and which sessions they wait for.
    let lockWatch = LockWatch()
    let vacuum = JobVacuum()
    /// What the runs report about themselves.
    let progress = ProgressBoard()
    let outage: DatabaseOutage
    /// Raised when the connection that claims has something to do.
    let requests = AsyncEvent()
    /// Raised when the consumer wants a tick earlier than it said before.
    let earlierTick = AsyncEvent()
    /// Raised when nothing is left to do after a shutdown.
    let stopped = AsyncEvent()
    /// Raised when a heartbeat is wanted at once.
    let heartbeat = AsyncEvent()
    private let state: Mutex<State>
    /// The metrics of runs that their plugins settle.
    private let settledMetrics: Mutex<RunMetrics>

    init(
        configuration: WorkerConfiguration,
        worker: Int64,
        registeredAt: MonotonicClock.Instant,
        clock: any WorkerClock,
        loggers: WorkerLoggers,
        metrics: WorkerMetrics,
        health: WorkerHealth,
        tracer: RunTracer?
    ) {
        self.configuration = configuration
        self.clock = clock
        self.loggers = loggers
        self.metrics = metrics
        self.health = health
        self.tracer = tracer
        settledMetrics = Mutex(RunMetrics(configuration.handlers))
        outage = DatabaseOutage(clock: clock, logger: loggers.database)
        handlers = Dictionary(configuration.handlers.map { ($0.kind, Handler($0)) }) { first, _ in first }
        let settings = Consumer.Settings(
            queues: configuration.queues,
            handlers: configuration.handlers.map { ($0.kind, $0.settings) },
            concurrency: configuration.concurrency,
            lease: configuration.lease,
            pollInterval: configuration.pollInterval,
            listens: configuration.listens
        )
        state = Mutex(
            State(
                consumer: Consumer(settings, worker: worker, registeredAt: registeredAt),
                nextTick: registeredAt
            )
        )
    }

    /// The timeout of calls about jobs. An answer after the end of the lease would be of little use.
    var timeout: Duration { max(.seconds(5), min(.seconds(30), configuration.lease)) }

    /// The logger for the worker as a whole.
    var logger: Logger { loggers.worker }

    // MARK: The consumer

    /// Passes an event to the consumer, and performs the actions that it returns.
    func handle(_ event: Consumer.Event) {
        let now = clock.now
        perform(state.withLock { state in stored(state.consumer.handle(event, at: now), in: &state) })
    }

    /// Reads from the consumer.
    func read<Result: Sendable>(_ body: (Consumer) -> Result) -> Result { state.withLock { body($0.consumer) } }

    var worker: Int64 { read(\.worker) }
    var hasStopped: Bool { read { $0.phase == .stopped } }

    /// Records the metrics of a run that its plugin has settled.
    func recordSettled(_ run: FinishedRun) {
        settledMetrics.withLock { metrics.settled([run], stale: [], in: &$0) }
    }

    /// Reports to the consumer that a run has ended; see ``Consumer/ended(_:_:at:isSettled:_:)``.
    func ended(
        _ start: HeldJobs.Start,
        _ times: FinishedRun.Times,
        at now: MonotonicClock.Instant,
        isSettled: Bool,
        _ judge: (HeldJobs.CancelReason?) -> FinishedRun.Ending?
    ) -> (counts: Bool, next: HeldJobs.Start?) {
        let (counts, next, actions) = state.withLock { state in
            let task = state.tasks[start.slot]
            let (counts, next, actions) = state.consumer.ended(start, times, at: now, isSettled: isSettled, judge)
            if let next {
                // Usually the next job has the same slot.
                if next.slot != start.slot { state.tasks[start.slot] = nil }
                state.keep(task, in: next.slot)
            }
            return (counts, next, actions.isEmpty ? [] : stored(actions, in: &state))
        }
        if !actions.isEmpty { perform(actions) }
        return (counts, next)
    }

    /// Stores the actions that the services fetch, and returns those that are still to be performed.
    private func stored(_ actions: [Consumer.Action], in state: inout State) -> [Consumer.Action] {
        actions.filter { action in
            switch action {
            case .send(let request): state.requests.append(request)
            case .reconnect(let error): state.fault = error
            case .wait(let tick):
                let isEarlier = tick < state.nextTick
                state.nextTick = tick
                return isEarlier
            case .start(let start):
                // The task is unstructured, so that one run can be cancelled alone. The consumer stops only when no run
                // is left or the grace time has elapsed.
                state.keep(Task { await self.run(start) }, in: start.slot)
                return false
            case .cancel, .report, .stop: break
            }
            return true
        }
    }

    private func perform(_ actions: [Consumer.Action]) {
        for action in actions {
            switch action {
            case .send, .reconnect: requests.raise()
            case .stop:
                requests.raise()
                stopped.raise()
            case .wait: earlierTick.raise()
            case .cancel(let slots): cancel(slots)
            case .report(let report): self.report(report)
            case .start: break
            }
        }
    }

    private func cancel(_ slots: [Int]) {
        let tasks = state.withLock { state in slots.compactMap { state.tasks[$0] } }
        for task in tasks { task.cancel() }
    }

    // MARK: The services

    func dequeueRequest() -> Request? {
        state.withLock { $0.requests.isEmpty ? nil : $0.requests.removeFirst() }
    }

    /// Takes the error for which the connection is to be closed, if there is one.
    func consumeFault() -> PostgresError? {
        state.withLock { state in
            defer { state.fault = nil }
            return state.fault
        }
    }

    /// Drops the requests that were not sent, because the connection is lost.
    func dropRequests() {
        state.withLock { state in
            state.requests = []
            state.fault = nil
        }
        handle(.disconnected)
    }

    /// Sends the consumer its ticks until it stops or the task is cancelled. A stopped consumer sets no time for the
    /// next tick, so this loop would otherwise spin.
    func runTimer() async {
        var nextRecord = clock.now
        while !Task.isCancelled, !hasStopped {
            health.ticked()
            let now = clock.now
            if now >= nextRecord {
                metrics.record(read { ($0.held.occupancy, $0.held.unresponsiveCount) })
                nextRecord = now + .seconds(1)
            }
            let next = min(state.withLock { $0.nextTick }, nextRecord)
            if next <= now { handle(.tick) } else { await earlierTick.wait(until: next, on: clock) }
        }
    }

    /// Requests an early heartbeat, to learn which kinds are stopped.
    func requestHeartbeat() {
        state.withLock { $0.isHeartbeatRequested = true }
        heartbeat.raise()
    }

    /// Whether `requestHeartbeat` was called since the last call of this method.
    func consumeHeartbeatRequest() -> Bool {
        state.withLock { state in
            defer { state.isHeartbeatRequested = false }
            return state.isHeartbeatRequested
        }
    }
}

extension Engine.State {
    fileprivate mutating func keep(_ task: Task<Void, Never>?, in slot: Int) {
        while tasks.count <= slot { tasks.append(nil) }
        tasks[slot] = task
    }
}
