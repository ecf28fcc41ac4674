import Synchronization

/// The places of a pool, each for one session. Tasks that wait for a place get one in their order.
package final class SessionPlaces: Sendable {
    private struct State {
        var taken = 0
        var lastWaiter = 0
        /// The tasks that wait, the first one first. Each gets whether it has a place.
        var waiters: [(id: Int, continuation: CheckedContinuation<Bool, Never>)] = []
    }

    package let count: Int
    private let state = Mutex(State())

    package init(count: Int) { self.count = count }

    /// Takes a place, or waits for one.
    ///
    /// - Throws: `CancellationError`.
    package func take() async throws {
        let id = state.withLock {
            $0.lastWaiter += 1
            return $0.lastWaiter
        }
        let hasPlace = await withTaskCancellationHandler {
            await withCheckedContinuation { (continuation: CheckedContinuation<Bool, Never>) in
                let known = state.withLock { state -> Bool? in
                    // The flag is read under the lock, which the handler below takes after the task is marked as
                    // cancelled.
                    if Task.isCancelled { return false }
                    if state.taken < count {
                        state.taken += 1
                        return true
                    }
                    state.waiters.append((id, continuation))
                    return nil
                }
                if let known { continuation.resume(returning: known) }
            }
        } onCancel: {
            cancel(id)
        }
        if !hasPlace { throw CancellationError() }
    }

    private func cancel(_ id: Int) {
        let waiter = state.withLock { state -> CheckedContinuation<Bool, Never>? in
            guard let index = state.waiters.firstIndex(where: { $0.id == id }) else { return nil }
            return state.waiters.remove(at: index).continuation
        }
        waiter?.resume(returning: false)
    }

    /// Gives a place to the next task that waits.
    package func leave() {
        let next = state.withLock { state -> CheckedContinuation<Bool, Never>? in
            if !state.waiters.isEmpty { return state.waiters.removeFirst().continuation }
            state.taken -= 1
            return nil
        }
        next?.resume(returning: true)
    }
}
