import Synchronization

/// Whether a connection has ended, and why: set once, awaited by many.
final class ConnectionEnd: Sendable {
    private struct State {
        var reason: PostgresError?
        var nextWaiter = 0
        var waiters: [Int: CheckedContinuation<PostgresError, Never>] = [:]
    }

    private let state = Mutex(State())

    /// Why the connection ended; nil while it lasts.
    var reason: PostgresError? { state.withLock { $0.reason } }

    /// Records the end and resumes the waiting tasks; a second end is ignored.
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

    /// Waits for the end and gives its reason; a task that is cancelled first gets ``PostgresError/Code/cancelled``.
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
                    // Read under the lock: the handler below takes it after the task is marked as cancelled.
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
