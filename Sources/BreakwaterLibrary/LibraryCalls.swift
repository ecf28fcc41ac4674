import Breakwater
import CBreakwaterHandler
import Glibc
import Libpq
import Logging
import Synchronization

/// Runs the calls of one handler on threads of their own.
///
/// It decides nothing: it passes events to the ``CallQueue`` and performs its actions.
final class LibraryCalls: Sendable {
    /// A call whose run waits for its end.
    private struct Call {
        var run: LibraryRun
        var job: Job
        var context: JobContext
        var continuation: CheckedContinuation<CallQueue.Ending, Never>
    }

    private struct State {
        var queue: CallQueue
        var calls: [UInt64: Call] = [:]
        var threads: [Int: LibraryThread] = [:]
        /// The threads that were told to end.
        var ending: [LibraryThread] = []
        var stopWaiters: [CheckedContinuation<Int, Never>] = []
        var logger: Logger?
        /// What `open` has returned, as a number because pointers are not Sendable, and the number for its log lines.
        var opened: (state: UInt, run: LibraryRun)?
    }

    /// What is done outside of the lock.
    private struct Results {
        var ended: [(CheckedContinuation<CallQueue.Ending, Never>, CallQueue.Ending)] = []
        var stopped: (waiters: [CheckedContinuation<Int, Never>], threads: [LibraryThread], abandoned: Int)?
    }

    /// How long a stop waits for calls that are cancelled. A worker has cancelled its runs seconds before.
    static let stopGrace = Duration.seconds(2)
    /// How much a library can say about a failed `open`, in bytes.
    private static let longestProblem = 1024

    let functions: LibraryFunctions
    let limit: Int
    private let settings: String
    private let stackBytes: Int
    private let state: Mutex<State>

    init(_ functions: LibraryFunctions, settings: String, threads: Int, stackBytes: Int) {
        self.functions = functions
        self.settings = settings
        self.stackBytes = stackBytes
        limit = threads
        state = Mutex(State(queue: CallQueue(limit: threads)))
    }

    // MARK: For the plugin

    /// Opens the library in the background, also after a stop.
    func start(logger: Logger) {
        handle { state, _ in
            state.logger = logger
            state.queue.start()
        }
    }

    /// Runs a job. The continuation is resumed when the call has ended.
    func submit(
        _ run: LibraryRun,
        _ job: Job,
        _ context: JobContext,
        _ continuation: CheckedContinuation<CallQueue.Ending, Never>
    ) {
        handle { state, now in
            if state.logger == nil { state.logger = context.logger }
            state.calls[run.number] = Call(run: run, job: job, context: context, continuation: continuation)
            state.queue.submit(run.number, at: now)
        }
    }

    func cancel(_ run: LibraryRun) { handle { state, now in state.queue.cancel(run.number, at: now) } }

    /// Cancels what runs, closes the library, and returns when its threads have ended.
    ///
    /// - Returns: The number of calls that have not returned in time; the library is not closed then.
    func stop() async -> Int {
        // The task is unstructured, because it must wait although this task may be cancelled. It is awaited below.
        let timer = Task {
            guard (try? await Task.sleep(for: Self.stopGrace)) != nil else { return }
            handle { state, _ in state.queue.abandon() }
        }
        let abandoned = await withCheckedContinuation { continuation in
            handle { state, now in
                state.stopWaiters.append(continuation)
                state.queue.stop(at: now)
            }
        }
        timer.cancel()
        await timer.value
        return abandoned
    }

    /// The number of threads.
    var threadCount: Int { state.withLock { $0.queue.threadCount } }

    /// The logger for what concerns no single job.
    var logger: Logger? { state.withLock(\.logger) }

    /// The number of threads of this process that are in functions of libraries.
    static var threadsInside: Int { inside.load(ordering: .acquiring) }
    private static let inside = Atomic(0)

    // MARK: On the library's threads

    private func perform(_ work: CallQueue.Work, on thread: Int) {
        Self.inside.add(1, ordering: .acquiringAndReleasing)
        defer { Self.inside.subtract(1, ordering: .acquiringAndReleasing) }
        switch work {
        case .open:
            let failure = open()
            handle { state, now in state.queue.opened(thread, failure, at: now) }
        case .run(let number):
            let (call, opened) = state.withLock { ($0.calls[number], $0.opened?.state ?? 0) }
            if let call { self.run(call, opened) }
            handle { state, now in state.queue.returned(thread, at: now) }
        case .close:
            close()
            handle { state, _ in state.queue.closed(thread) }
        case .end: break
        }
    }

    private func run(_ call: Call, _ opened: UInt) {
        let memory = JobMemory(call.job, run: call.run.number, remaining: call.context.remainingTime)
        LibraryRuns.add(call.run)
        memory.withJob { functions.run(UnsafeMutableRawPointer(bitPattern: opened), $0, HostFunctions.table) }
        LibraryRuns.remove(call.run)
    }

    private func open() -> JobFailure? {
        let logger = state.withLock(\.logger) ?? Logger(label: "breakwater.handlers")
        let run = LibraryRun(.library(logger))
        LibraryRuns.add(run)
        var opened: UnsafeMutableRawPointer?
        let (status, problem) = withOpening(run.number) { functions.open($0, HostFunctions.table, &opened) }
        guard status == 0 else {
            LibraryRuns.remove(run)
            let reason = problem.isEmpty ? "it returned \(status)" : problem
            return JobFailure("library.open", "the library \(functions.path) cannot be opened: \(reason)")
        }
        state.withLock { $0.opened = (UInt(bitPattern: opened), run) }
        let name = functions.name.map { "\($0), " } ?? ""
        logger.debug("opened the library \(name)\(functions.path)")
        return nil
    }

    /// Gives the body what `open` gets.
    ///
    /// - Returns: The body's result, and what the library wrote about a failure.
    private func withOpening(
        _ handle: UInt64,
        _ body: (UnsafePointer<breakwater_opening>) -> Int32
    ) -> (status: Int32, problem: String) {
        var problem = [CChar](repeating: 0, count: Self.longestProblem)
        let status = problem.withUnsafeMutableBufferPointer { problem in
            settings.withCString { text in
                let opening = breakwater_opening(
                    struct_size: UInt32(MemoryLayout<breakwater_opening>.size),
                    threads: UInt32(limit),
                    handle: handle,
                    settings: breakwater_text(bytes: text, length: UInt64(settings.utf8.count)),
                    problem: problem.baseAddress,
                    problem_size: UInt64(problem.count)
                )
                return withUnsafePointer(to: opening, body)
            }
        }
        let written = problem.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        return (status, JobResult.text(from: written, isCut: written.count == problem.count))
    }

    private func close() {
        let opened = state.withLock { state in
            defer { state.opened = nil }
            return state.opened
        }
        guard let opened else { return }
        functions.close(UnsafeMutableRawPointer(bitPattern: opened.state))
        LibraryRuns.remove(opened.run)
    }

    // MARK: Actions

    private func handle(_ body: (inout State, ContinuousClock.Instant) -> Void) {
        let now = ContinuousClock.now
        var results = Results()
        state.withLock { state in
            body(&state, now)
            // A thread that cannot be started is an event, which has actions of its own.
            while !state.queue.isSettled {
                for action in state.queue.takeActions() { perform(action, in: &state, &results) }
            }
        }
        for (continuation, ending) in results.ended { continuation.resume(returning: ending) }
        if let (waiters, threads, abandoned) = results.stopped { endThreads(threads, waiters, abandoned) }
    }

    private func perform(_ action: CallQueue.Action, in state: inout State, _ results: inout Results) {
        switch action {
        case .start(let number, let work):
            let thread = LibraryThread()
            thread.give(work)
            state.threads[number] = thread
            if !thread.start(stackBytes: stackBytes, { self.perform($0, on: number) }) {
                state.threads[number] = nil
                state.queue.startFailed(number, Self.noThread)
            }
        case .give(let number, let work):
            guard let thread = state.threads[number] else { return }
            thread.give(work)
            if work == .end {
                state.threads[number] = nil
                state.ending.append(thread)
            }
        case .cancel(let call): state.calls[call]?.run.cancel()
        case .finish(let call, let ending):
            if let call = state.calls.removeValue(forKey: call) { results.ended.append((call.continuation, ending)) }
        case .stopped(let abandoned):
            results.stopped = (state.stopWaiters, state.ending, abandoned)
            state.stopWaiters = []
            state.ending = []
        }
    }

    private static var noThread: JobFailure {
        JobFailure(limit: EAGAIN, while: "starting a thread")
            ?? JobFailure("worker.EAGAIN", "starting a thread failed")
    }

    /// Waits on another thread until the threads have ended, because what they run at their end belongs to the library.
    private func endThreads(
        _ threads: [LibraryThread],
        _ waiters: [CheckedContinuation<Int, Never>],
        _ abandoned: Int
    ) {
        let end: @Sendable () -> Void = {
            for thread in threads { thread.join() }
            for waiter in waiters { waiter.resume(returning: abandoned) }
        }
        if threads.isEmpty || !DetachedThread.start("library-end", end) {
            for waiter in waiters { waiter.resume(returning: abandoned) }
        }
    }
}
