import Breakwater

/// Decides what each thread of a library does: which call is next, when the library is opened and closed, and when a
/// thread is started and ends. It does nothing itself: it takes events, and returns actions.
struct CallQueue {
    typealias Instant = ContinuousClock.Instant

    /// What a thread does.
    enum Work: Sendable, Equatable {
        case open
        case run(UInt64)
        case close
        /// The thread ends.
        case end
    }

    /// How a call ended.
    enum Ending: Sendable, Equatable {
        /// The library has returned from it.
        case returned
        /// It was cancelled before it began.
        case cancelled
        /// The plugin was stopped before it began.
        case released
        /// It cannot begin in this worker.
        case unable(JobFailure)
    }

    enum Action: Sendable, Equatable {
        /// Start a thread of this number, which does this first.
        case start(thread: Int, Work)
        /// Let a thread that is idle do this.
        case give(thread: Int, Work)
        /// Tell the library that a call is cancelled.
        case cancel(UInt64)
        case finish(UInt64, Ending)
        /// The stop is over. This number of threads is still in the library, which is therefore not closed.
        case stopped(abandoned: Int)
    }

    private enum Phase {
        /// No thread has opened the library. Next: opening.
        case closed
        /// Next: open, closed if it fails, abandoned.
        case opening
        /// Next: closing, abandoned.
        case open
        /// Next: closed, abandoned.
        case closing
        /// A stop has ended while the library was in use. No call begins any more. This is the last state.
        case abandoned
    }

    /// A call that goes on for this long after its cancellation may hold its thread for ever.
    static let longestCancelled = Duration.seconds(10)

    /// The most threads.
    let limit: Int
    private var phase = Phase.closed
    private var isStopping = false
    /// The calls that wait for a thread, the first one first.
    private var waiting: [UInt64] = []
    private var idle: [Int] = []
    private var busy: [Int: Work] = [:]
    private var lastThread = 0
    /// When running calls were cancelled.
    private var cancelled: [UInt64: Instant] = [:]
    private var actions: [Action] = []

    init(limit: Int) { self.limit = limit }

    /// The number of threads.
    var threadCount: Int { idle.count + busy.count }

    /// Whether all actions were taken.
    var isSettled: Bool { actions.isEmpty }

    /// Returns the actions of the last events, in order.
    mutating func takeActions() -> [Action] {
        defer { actions = [] }
        return actions
    }

    // MARK: Events of the plugin

    /// Opens the library, also after a stop.
    mutating func start() {
        guard phase == .closed else { return }
        isStopping = false
        open()
    }

    mutating func submit(_ call: UInt64, at now: Instant) {
        guard !isStopping, phase != .abandoned else {
            actions.append(.finish(call, .released))
            return
        }
        waiting.append(call)
        if phase == .closed { open() } else { begin(at: now) }
    }

    mutating func cancel(_ call: UInt64, at now: Instant) {
        if let index = waiting.firstIndex(of: call) {
            waiting.remove(at: index)
            actions.append(.finish(call, .cancelled))
        } else if cancelled[call] == nil, busy.values.contains(.run(call)) {
            cancelled[call] = now
            actions.append(.cancel(call))
        }
    }

    /// Begins no call any more, cancels those that run, and closes the library after the last one.
    mutating func stop(at now: Instant) {
        isStopping = true
        finishWaiting(.released)
        for case .run(let call) in busy.values { cancel(call, at: now) }
        switch phase {
        case .closed: endThreads()
        case .open: closeIfUnused()
        case .opening, .closing: break
        case .abandoned: actions.append(.stopped(abandoned: busy.count))
        }
    }

    /// Ends a stop although the library is still in use.
    mutating func abandon() {
        guard isStopping, phase != .closed, phase != .abandoned else { return }
        phase = .abandoned
        endThreads()
    }

    // MARK: Events of the threads

    /// The library has been opened, or has refused that.
    mutating func opened(_ thread: Int, _ failure: JobFailure?, at now: Instant) {
        guard rests(thread) else { return }
        phase = failure == nil ? .open : .closed
        if let failure { finishWaiting(.unable(failure)) }
        switch (isStopping, phase) {
        case (true, .open): closeIfUnused()
        case (true, _): endThreads()
        case (false, _): begin(at: now)
        }
    }

    /// The library has returned from a call.
    mutating func returned(_ thread: Int, at now: Instant) {
        guard case .run(let call) = busy[thread] else { return }
        cancelled[call] = nil
        actions.append(.finish(call, .returned))
        guard rests(thread) else { return }
        if isStopping { closeIfUnused() } else { begin(at: now) }
    }

    /// The library has been closed.
    mutating func closed(_ thread: Int) {
        guard rests(thread) else { return }
        phase = .closed
        endThreads()
    }

    /// A thread could not be started.
    mutating func startFailed(_ thread: Int, _ failure: JobFailure) {
        let work = busy.removeValue(forKey: thread)
        if case .run(let call) = work {
            guard threadCount == 0 else {
                // The next thread that becomes idle runs it.
                waiting.insert(call, at: 0)
                while !waiting.isEmpty, let thread = idle.popLast() { give(thread, .run(waiting.removeFirst())) }
                return
            }
            actions.append(.finish(call, .unable(failure)))
        } else {
            phase = .closed
        }
        finishWaiting(.unable(failure))
        if isStopping, phase == .closed { endThreads() }
    }

    // MARK: Decisions

    private mutating func open() {
        phase = .opening
        assign(.open)
    }

    private mutating func closeIfUnused() {
        guard phase == .open, busy.isEmpty else { return }
        phase = .closing
        assign(.close)
    }

    /// Makes a thread idle, or ends it if nothing follows.
    private mutating func rests(_ thread: Int) -> Bool {
        busy[thread] = nil
        guard phase != .abandoned else {
            actions.append(.give(thread: thread, .end))
            return false
        }
        idle.append(thread)
        return true
    }

    /// Gives waiting calls to threads that are idle or can be started.
    private mutating func begin(at now: Instant) {
        guard phase == .open else { return }
        while !waiting.isEmpty, !idle.isEmpty || threadCount < limit { assign(.run(waiting.removeFirst())) }
        guard !waiting.isEmpty, isStuck(at: now) else { return }
        let failure = JobFailure(
            "library.stuck",
            "all \(limit) threads of the library are in calls that go on although they were cancelled"
        )
        finishWaiting(.unable(failure))
    }

    /// Whether all threads are in calls that ignore their cancellation.
    private func isStuck(at now: Instant) -> Bool {
        busy.count == limit
            && busy.values.allSatisfy { work in
                guard case .run(let call) = work, let since = cancelled[call] else { return false }
                return now - since >= Self.longestCancelled
            }
    }

    private mutating func assign(_ work: Work) {
        if let thread = idle.popLast() { return give(thread, work) }
        lastThread += 1
        busy[lastThread] = work
        actions.append(.start(thread: lastThread, work))
    }

    private mutating func give(_ thread: Int, _ work: Work) {
        busy[thread] = work
        actions.append(.give(thread: thread, work))
    }

    private mutating func finishWaiting(_ ending: Ending) {
        for call in waiting { actions.append(.finish(call, ending)) }
        waiting = []
    }

    /// Ends the idle threads, which ends a stop.
    private mutating func endThreads() {
        for thread in idle { actions.append(.give(thread: thread, .end)) }
        idle = []
        actions.append(.stopped(abandoned: busy.count))
    }
}
