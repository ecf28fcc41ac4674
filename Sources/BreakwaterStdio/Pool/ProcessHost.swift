import Breakwater
import BreakwaterProcess
import CProcess
import Glibc
import Libpq
import Logging
import Synchronization

/// Runs the processes of one pool: a thread that starts them, waits for their pipes with `poll`, and reads and writes.
///
/// It decides nothing: it passes events to the ``ProcessPool`` and performs its actions. Jobs are handed over in
/// memory, so one write carries all lines that were added since the last one, and one read takes all that were answered.
final class ProcessHost: Sendable {
    /// A job whose run waits for its end.
    struct Caller: Sendable {
        var context: JobContext
        var continuation: CheckedContinuation<ProcessPool.Ending, Never>
    }

    /// What the thread is to do with a process.
    enum Order: Sendable {
        case start(Int)
        case closeInput(Int)
        case signal(Int, Int32)
    }

    /// What the thread has seen of a process.
    enum Event: Sendable {
        case startFailed(JobFailure)
        case message(ProcessMessage)
        case fault(ProtocolFault)
        case flood
        case closed
        case measured(Int)
        case exited(JobFailure, tail: String)
    }

    private struct State {
        var pool: ProcessPool
        var callers: [UInt64: Caller] = [:]
        /// What is to be written to each process.
        var output: [[UInt8]] = []
        var orders: [Order] = []
        /// The descriptor that wakes the thread, as long as there is one.
        var wake: CInt = -1
        /// The thread is in `poll`, or about to be, and must be woken.
        var isWaiting = false
        /// Until when it waits; nil if only an event ends the wait.
        var waitsUntil: ContinuousClock.Instant?
        var hasOutput = false
        var logger: Logger?
        var hasStopped = false
        var stopWaiters: [CheckedContinuation<Void, Never>] = []

        /// Whether something is due before the end of the thread's wait.
        var mustWaitLess: Bool {
            guard let next = pool.nextDeadline else { return false }
            return waitsUntil.map { next < $0 } ?? true
        }

        /// Where the values that a run reports are kept: where its worker wants them, or else only as long as it runs.
        mutating func reports(of run: UInt64) -> RunReports? {
            guard callers[run] != nil else { return nil }
            if callers[run]?.context.reports == nil { callers[run]?.context.reports = RunReports() }
            return callers[run]?.context.reports
        }
    }

    /// What is done outside of the lock.
    private struct Results {
        var ended: [(CheckedContinuation<ProcessPool.Ending, Never>, ProcessPool.Ending)] = []
        var lines: [(Logger.Level, String)] = []
        var stopWaiters: [CheckedContinuation<Void, Never>] = []
        var mustStart = false
    }

    let program: Program
    let settings: StdioSettings
    /// Runs a body on a new thread of this name. Returns false when there can be none.
    typealias NewThread = @Sendable (_ name: String, _ body: @escaping @Sendable () -> Void) -> Bool
    private let newThread: NewThread
    private let lastRun = Atomic<UInt64>(0)
    private let state: Mutex<State>

    init(_ program: Program, _ settings: StdioSettings, newThread: @escaping NewThread = DetachedThread.start) {
        self.program = program
        self.settings = settings
        self.newThread = newThread
        state = Mutex(State(pool: ProcessPool(settings, name: program.command[0])))
    }

    // MARK: For the plugin

    /// The number of the next run.
    func nextRun() -> UInt64 { lastRun.wrappingAdd(1, ordering: .relaxed).newValue }

    /// Starts the processes, also after they were stopped.
    func start(logger: Logger) {
        handle { state, _, now in
            state.logger = logger
            if state.hasStopped {
                state.hasStopped = false
                state.pool = ProcessPool(settings, name: program.command[0])
            }
            state.pool.start(at: now)
        }
    }

    /// Runs a job. The continuation is resumed when the run has ended.
    func submit(_ run: UInt64, _ line: [UInt8], _ caller: Caller) {
        handle { state, _, now in
            if state.logger == nil { state.logger = caller.context.logger }
            state.callers[run] = caller
            state.pool.submit(run, line, at: now)
        }
    }

    func cancel(_ run: UInt64) { handle { state, _, now in state.pool.cancel(run, at: now) } }

    /// Ends all processes, and returns when they have ended.
    func stop() async {
        await withCheckedContinuation { continuation in
            handle { state, _, now in
                state.stopWaiters.append(continuation)
                state.pool.stop(at: now)
            }
        }
    }

    /// The numbers of the processes that run now, for tests.
    var processes: [pid_t] { numbers.withLock { $0.compactMap { $0 } } }
    private let numbers = Mutex<[pid_t?]>([])

    func note(_ number: pid_t?, at place: Int) {
        numbers.withLock { numbers in
            while numbers.count <= place { numbers.append(nil) }
            numbers[place] = number
        }
    }

    // MARK: For the thread

    func takeOrders() -> [Order] {
        state.withLock { state in
            state.isWaiting = false
            if state.orders.isEmpty { return [] }
            defer { state.orders = [] }
            return state.orders
        }
    }

    /// Takes the lines to write to the processes that run.
    func takeOutput(_ channels: inout [ProcessChannel?]) {
        state.withLock { state in
            guard state.hasOutput else { return }
            state.hasOutput = false
            for place in state.output.indices where !state.output[place].isEmpty {
                if channels.indices.contains(place), channels[place] != nil {
                    channels[place]?.take(&state.output[place])
                } else {
                    // The process is still to be started, and gets its lines then.
                    state.hasOutput = true
                }
            }
        }
    }

    /// When to wake up at the latest; nil if no event is needed by then. The time is now if there is work already.
    func prepareToWait() -> ContinuousClock.Instant? {
        state.withLock { state in
            if state.hasOutput || !state.orders.isEmpty { return .now }
            state.isWaiting = true
            state.waitsUntil = state.pool.nextDeadline
            return state.waitsUntil
        }
    }

    /// Passes on what the thread has seen.
    ///
    /// - Returns: Whether the thread is to go on.
    func report(_ events: [(place: Int, event: Event)]) -> Bool {
        handle { state, results, now in
            state.isWaiting = false
            for (place, event) in events {
                switch event {
                case .message(let message): state.pool.received(message, from: place, at: now)
                case .fault(let fault): state.pool.broke(place, fault.message, at: now)
                case .flood: state.pool.flooded(place, at: now)
                case .closed: state.pool.closed(place, at: now)
                case .measured(let bytes): state.pool.measured(place, bytes: bytes, at: now)
                case .startFailed(let failure):
                    dropOutput(of: place, in: &state, &results)
                    state.pool.startFailed(place, failure, at: now)
                case .exited(let failure, let tail):
                    dropOutput(of: place, in: &state, &results)
                    state.pool.exited(place, failure, tail: tail, at: now)
                }
            }
            state.pool.tick(at: now)
        }
        return state.withLock { !$0.hasStopped }
    }

    /// Drops what was to be written to a process that is gone, before another gets its place.
    private func dropOutput(of place: Int, in state: inout State, _ results: inout Results) {
        perform(in: &state, &results)
        state.output[place] = []
    }

    /// The logger for what a process writes: with the job's identity if only one job can have caused it.
    func logger(of place: Int, process: pid_t) -> Logger {
        var logger =
            state.withLock { state in
                state.pool.onlyRun(of: place).flatMap { state.callers[$0]?.context.logger } ?? state.logger
            } ?? Logger(label: "stdio")
        logger[metadataKey: "process"] = .stringConvertible(process)
        return logger
    }

    // MARK: Actions

    private func handle(_ body: (inout State, inout Results, ContinuousClock.Instant) -> Void) {
        let now = ContinuousClock.now
        var results = Results()
        state.withLock { state in
            body(&state, &results, now)
            perform(in: &state, &results)
            guard state.isWaiting, state.hasOutput || !state.orders.isEmpty || state.mustWaitLess else { return }
            state.isWaiting = false
            var one: UInt64 = 1
            _ = write(state.wake, &one, MemoryLayout<UInt64>.size)
        }
        if results.mustStart { startThread() }
        if !results.lines.isEmpty, let logger = state.withLock(\.logger) {
            for (level, line) in results.lines { logger.log(level: level, "\(line)") }
        }
        for (continuation, ending) in results.ended { continuation.resume(returning: ending) }
        for continuation in results.stopWaiters { continuation.resume() }
    }

    private func perform(in state: inout State, _ results: inout Results) {
        for action in state.pool.takeActions() {
            switch action {
            case .write(let place, let bytes):
                while state.output.count <= place { state.output.append([]) }
                state.output[place] += bytes
                state.hasOutput = true
            case .start(let place):
                state.orders.append(.start(place))
                if state.wake < 0 {
                    // A number that is not a descriptor, until the thread has one.
                    state.wake = .max
                    results.mustStart = true
                }
            case .closeInput(let place): state.orders.append(.closeInput(place))
            case .signal(let place, let signal): state.orders.append(.signal(place, signal))
            case .finish(let run, let ending):
                if let caller = state.callers.removeValue(forKey: run) {
                    results.ended.append((caller.continuation, ending))
                }
            case .progress(let run, let fraction, let note):
                state.reports(of: run)?.progress(fraction: fraction, note: note)
            case .checkpoint(let run, let json):
                do {
                    try state.reports(of: run)?.checkpoint(json)
                } catch {
                    state.callers[run]?.context.logger.warning("\(error.message), so it is not stored")
                }
            case .warn(let line): results.lines.append((.warning, line))
            case .info(let line): results.lines.append((.info, line))
            case .stopped:
                state.hasStopped = true
                results.stopWaiters += state.stopWaiters
                state.stopWaiters = []
            }
        }
    }

    private func startThread() {
        var failure = DescriptorReserve.open { breakwater_make_event() }
        let wake = failure.descriptor
        if wake >= 0 {
            state.withLock { $0.wake = wake }
            if newThread("stdio", { ProcessThread(self, wake: wake).run() }) { return }
            failure.error = EAGAIN
            close(wake)
        }
        let missing = StartFailure(failure.error, of: program.executable, in: program.workingDirectory).failure
        handle { state, results, now in
            state.wake = -1
            for case .start(let place) in state.orders {
                dropOutput(of: place, in: &state, &results)
                state.pool.startFailed(place, missing, at: now)
            }
            state.orders = []
        }
    }

    /// Lets the thread end, which closes its descriptor.
    ///
    /// - Returns: False if the pool was started again in the meantime, so that the thread must go on.
    func threadEnds(wake: CInt) -> Bool {
        state.withLock { state in
            guard state.hasStopped else { return false }
            state.wake = -1
            state.isWaiting = false
            close(wake)
            return true
        }
    }
}
