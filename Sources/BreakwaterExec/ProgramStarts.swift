import Breakwater
import Glibc
import Synchronization

/// Lets programs start a few at a time, each only while this process has what a start needs.
///
/// A start that runs out of descriptors half-way does harm: if swift-subprocess cannot open all of a program's pipes,
/// it ends the whole worker; if it cannot open the descriptor of the process, it misses the process's end; and what it
/// sets up with the first program it never sets up again if that failed. So this sets descriptors aside first.
final class ProgramStarts: Sendable {
    static let shared = ProgramStarts()

    /// More would not be faster: they wait for one thread that starts them.
    private static let maximumAtOnce = 4
    /// Both ends of three pipes, the process, and its working directory.
    private static let descriptorsOfEach = 8
    /// Those that swift-subprocess sets up with the first program.
    private static let threads = 3

    private struct State {
        var starting = 0
        var hasStartedBefore = false
        var waiting: [CheckedContinuation<Void, Never>] = []
    }

    private let state = Mutex(State())

    /// A start that has begun. It is over when the program runs, or could not be run.
    final class Start: Sendable {
        private let isOver = Atomic(false)
        private let starts: ProgramStarts
        private let hasReserve: Bool

        fileprivate init(_ starts: ProgramStarts, hasReserve: Bool) {
            self.starts = starts
            self.hasReserve = hasReserve
        }

        /// Lets another one begin. Saying so twice is harmless.
        func end(isRunning: Bool) {
            guard !isOver.exchange(true, ordering: .relaxed) else { return }
            if hasReserve { DescriptorReserve.giveBack(ProgramStarts.descriptorsOfEach) }
            starts.end(isRunning: isRunning)
        }
    }

    /// Waits until few others are starting.
    ///
    /// - Parameter action: What is done, as the beginning of a sentence.
    /// - Throws: What is missing.
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
            // It hands its place on.
            if !state.waiting.isEmpty { return state.waiting.removeFirst() as CheckedContinuation<Void, Never>? }
            state.starting -= 1
            return nil
        }
        next?.resume()
    }

    /// Why some threads cannot be started now; nil if they can.
    private static func errorStartingThreads() -> Int32? {
        let gate = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
        defer { gate.deallocate() }
        pthread_mutex_init(gate, nil)
        pthread_mutex_lock(gate)
        var started: [pthread_t] = []
        var error: Int32 = 0
        while error == 0, started.count < threads {
            var thread = pthread_t()
            // Each waits at the gate, so that all of them are there at once.
            error = pthread_create(
                &thread,
                nil,
                { gate in
                    // What is given to them, below.
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
