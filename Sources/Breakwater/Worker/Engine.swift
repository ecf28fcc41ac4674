import Libpq
import Logging
import Synchronization

/// What the loops of one worker share: its dispatcher and lanes behind one lock, and the signals between the loops.
///
/// The loops decide nothing by themselves; they ask the ``Dispatcher`` and carry out what it says.
final class Engine: Sendable {
    struct State {
        var dispatcher: Dispatcher
        var lanes: ActiveLanes
        var solitude: Solitude
        /// This worker's row in `breakwater.worker`; it changes when the lease was lost and the worker registers anew.
        var worker: Int64
        /// Whether there may be jobs to claim that the last claim could not find.
        var hasNews = false
        /// Whether a beat is wanted before its time, to learn which kinds are stopped.
        var isBeatWanted = false
        /// Whether no other worker takes jobs of the same kinds and queues, as far as the last beat knows.
        var isAlone = false
    }

    /// A registered handler, as something that is handed around by reference.
    final class Handler: Sendable {
        let plugin: any HandlerPlugin
        let settings: HandlerSettings
        let timeout: Duration
        /// From how long on a run is slow.
        private let slowCall: Duration?
        private let keepsResults: Bool

        init(_ registration: HandlerRegistration) {
            plugin = registration.plugin
            settings = registration.settings
            timeout = settings.timeout
            slowCall = settings.circuit.slowCall
            keepsResults = settings.keepResults > .zero
        }

        /// Whether anything is to be recorded of a success but that it was one.
        func isNotable(successAfter duration: Duration) -> Bool {
            keepsResults || slowCall.map { duration >= $0 } ?? false
        }
    }

    let configuration: WorkerConfiguration
    let loggers: WorkerLoggers
    let metrics: WorkerMetrics
    let health: WorkerHealth
    /// Nil where nobody traces.
    let tracer: RunTracer?
    /// What runs each kind, and its rules.
    let handlers: [String: Handler]
    private let keyedKinds: [String]
    /// Raised when the claim loop may have something to do.
    let work = Signal()
    /// Raised when the beat loop should beat at once.
    let beat = Signal()
    private let state: Mutex<State>

    init(
        configuration: WorkerConfiguration,
        worker: Int64,
        registeredAt: Moment,
        loggers: WorkerLoggers,
        metrics: WorkerMetrics,
        health: WorkerHealth,
        tracer: RunTracer?
    ) {
        self.configuration = configuration
        self.loggers = loggers
        self.metrics = metrics
        self.health = health
        self.tracer = tracer
        handlers = Dictionary(configuration.handlers.map { ($0.kind, Handler($0)) }) { first, _ in first }
        keyedKinds = configuration.handlers.filter(\.settings.circuit.hasOwnKeys).map(\.kind)
        state = Mutex(
            State(
                dispatcher: Dispatcher(
                    concurrency: configuration.concurrency,
                    handlers: configuration.handlers,
                    lease: configuration.lease,
                    heldSince: registeredAt
                ),
                lanes: ActiveLanes(queues: configuration.queues, kinds: configuration.handlers.map(\.kind)),
                solitude: Solitude(patience: configuration.lease, at: .now),
                worker: worker
            )
        )
    }

    /// How long to wait for an answer about jobs. Later than the lease, it would be of little use.
    var timeout: Duration { max(.seconds(5), min(.seconds(30), configuration.lease)) }

    /// For what concerns the worker as a whole.
    var logger: Logger { loggers.worker }

    func withState<Result>(_ body: (inout sending State) -> sending Result) -> sending Result {
        state.withLock(body)
    }

    /// Starts whatever has a free slot.
    func startJobs() {
        let now = Moment.now
        withState { state in
            while let job = state.dispatcher.nextStartable(at: now) {
                // Unstructured, so that one run can be cancelled by itself; the claim loop does not end before the
                // dispatcher says that no run is left, or that the grace is over.
                let start = Start(job: job, time: now)
                state.dispatcher.started(start.key, as: Task { await self.run(start) })
            }
        }
    }

    /// There may be something to claim: of this kind, or, when nil, of any.
    func woken(kind: String?) {
        withState { state in
            if let kind { state.lanes.woken(kind: kind, at: .now) }
            state.hasNews = true
        }
        work.raise()
    }

    /// Lets the next claim ask for the kinds whose circuits have keys, though nothing of them may be ready: all their
    /// jobs may be put aside behind circuits that want probes, where no sweep finds them.
    func askForProbes() {
        withState { state in
            for kind in keyedKinds { state.lanes.woken(kind: kind, at: .now) }
        }
    }

    /// Whether `woken` was called since the last time this was asked.
    func takeNews() -> Bool {
        withState { state in
            defer { state.hasNews = false }
            return state.hasNews
        }
    }

    /// Asks for a beat before its time, to learn which kinds are stopped.
    func wantBeat() {
        withState { $0.isBeatWanted = true }
        beat.raise()
    }

    /// Whether `wantBeat` was called since the last time this was asked.
    func takeBeatWanted() -> Bool {
        withState { state in
            defer { state.isBeatWanted = false }
            return state.isBeatWanted
        }
    }

    /// Nothing new is claimed or started; what runs goes on.
    func drain() {
        withState { $0.dispatcher.drain() }
        work.raise()
        wantBeat()
    }

    /// Cancels runs, for a reason that decides what their ends mean.
    ///
    /// - Returns: How many were cancelled.
    @discardableResult
    func cancelRuns(
        for reason: Dispatcher.CancelReason,
        where isChosen: (Dispatcher.Running) -> Bool = { _ in true }
    ) -> Int {
        let tasks = withState { $0.dispatcher.cancel(for: reason, where: isChosen) }
        for task in tasks { task.cancel() }
        return tasks.count
    }
}
