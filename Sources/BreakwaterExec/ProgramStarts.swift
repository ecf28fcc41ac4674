import Breakwater
import Glibc
import Synchronization

/// Limits how many programs start at once. A start begins only if this process has the resources for it.
///
/// Running out of descriptors during a start does harm. If swift-subprocess cannot open all of a program's pipes, it
/// ends the whole worker. If it cannot open the process descriptor, it misses the end of the process. If its one-time
/// setup with the first program fails, it never tries again. So descriptors are reserved first.
final class ProgramStarts: Sendable {
    static let shared = ProgramStarts()

    /// The most starts at once. More would not be faster, because one thread starts all programs.
    private static let maximumAtOnce = 4
    /// A start needs both ends of three pipes, the process descriptor and the working directory.
    private static let descriptorsOfEach = 8
    /// The number of threads that swift-subprocess starts with the first program.
    private static let threads = 3

    private struct State {
        var starting = 0
        var hasStartedBefore = false
        var waiting: [CheckedContinuation<Void, Never>] = []
    }

    private let state = Mutex(State())

    /// A start in progress. It ends when the program runs or could not be run.
    final class Start: Sendable {
        private let isOver = Atomic(false)
        private let starts: ProgramStarts
        private let hasReserve: Bool

        fileprivate init(_ starts: ProgramStarts, hasReserve: Bool) {
            self.starts = starts
            self.hasReserve = hasReserve
        }

        /// Ends this start, so that another may begin. Further calls have no effect.
        func end(isRunning: Bool) {
            guard !isOver.exchange(true, ordering: .relaxed) else { return }
            if hasReserve { DescriptorReserve.giveBack(ProgramStarts.descriptorsOfEach) }
            starts.end(isRunning: isRunning)
        }
    }

    /// Waits until fewer than ``maximumAtOnce`` programs are starting.
    ///
    /// - Parameter action: What is being done, as the beginning of a sentence.
    /// - Throws: The resource that is missing.
    func begin(_ action: String) async throws(JobFailure) -> Start {
        await withCheckedContinuation { continuation in
            let mayBegin = state.withLock { state in
                if state.starting < Self.maximumAtOnce {
                    state.starting += 1
                    return true
                }
                state.waiting.append(continuation)
                return false
            }
            if mayBegin { continuation.resume() }
        }
        var missing = DescriptorReserve.reserve(Self.descriptorsOfEach)
        let hasReserve = missing == nil
        if missing == nil, !state.withLock({ $0.hasStartedBefore }) { missing = Self.errorStartingThreads() }
        let start = Start(self, hasReserve: hasReserve)
        guard let missing else { return start }
        start.end(isRunning: false)
        throw JobFailure(limit: missing, while: action)
            ?? JobFailure("exec.spawn", "\(action) failed: \(String(cString: strerror(missing)))")
    }

    private func end(isRunning: Bool) {
        let next = state.withLock { state in
            if isRunning { state.hasStartedBefore = true }
            // The place passes to the next waiting start.
            if !state.waiting.isEmpty { return state.waiting.removeFirst() as CheckedContinuation<Void, Never>? }
            state.starting -= 1
            return nil
        }
        next?.resume()
    }

    /// The error number if the needed threads cannot be started now; nil if they can.
    private static func errorStartingThreads() -> Int32? {
        let gate = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
        defer { gate.deallocate() }
        pthread_mutex_init(gate, nil)
        pthread_mutex_lock(gate)
        var started: [pthread_t] = []
        var error: Int32 = 0
        while error == 0, started.count < threads {
            var thread = pthread_t()
            // Each thread waits at the gate, so that all of them exist at the same time.
            error = pthread_create(
                &thread,
                nil,
                { gate in
                    // The argument is never null: it is the `gate` that is passed below.
                    let gate = gate!.assumingMemoryBound(to: pthread_mutex_t.self)
                    pthread_mutex_lock(gate)
                    pthread_mutex_unlock(gate)
                    return nil
                },
                gate
            )
            if error == 0 { started.append(thread) }
        }
        pthread_mutex_unlock(gate)
        for thread in started { pthread_join(thread, nil) }
        pthread_mutex_destroy(gate)
        return error == 0 ? nil : error
    }
}
