import Synchronization

/// Whether a connection has ended, and why. It is set once, and many tasks may wait for it.
final class ConnectionEnd: Sendable {
    private struct State {
        var reason: PostgresError?
        var nextWaiter = 0
        var waiters: [Int: CheckedContinuation<PostgresError, Never>] = [:]
    }

    private let state = Mutex(State())

    /// The reason why the connection ended; nil while it is open.
    var reason: PostgresError? { state.withLock { $0.reason } }

    /// Records the end and resumes the waiting tasks. A second end is ignored.
    func set(_ reason: PostgresError) {
        let waiters = state.withLock {
            guard $0.reason == nil else { return [CheckedContinuation<PostgresError, Never>]() }
            let waiters = Array($0.waiters.values)
            $0.reason = reason
            $0.waiters = [:]
            return waiters
        }
        for waiter in waiters { waiter.resume(returning: reason) }
    }

    /// Waits for the end and returns its reason. A task that is cancelled first gets ``PostgresError/Code/cancelled``.
    func wait() async -> PostgresError {
        let cancelled = PostgresError(.cancelled, "the wait for the connection's end was cancelled")
        let id = state.withLock {
            $0.nextWaiter += 1
            return $0.nextWaiter
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let known = state.withLock { state -> PostgresError? in
                    if let reason = state.reason { return reason }
                    // The flag is read under the lock, which the handler below takes after the task is marked as
                    // cancelled.
                    if Task.isCancelled { return cancelled }
                    state.waiters[id] = continuation
                    return nil
                }
                if let known { continuation.resume(returning: known) }
            }
        } onCancel: {
            state.withLock { $0.waiters.removeValue(forKey: id) }?.resume(returning: cancelled)
        }
    }
}
