import Synchronization

/// An event that one task waits for and any number of others raise. If no task waits, a raise is kept for the next
/// wait. Several raises count as one.
final class AsyncEvent: Sendable {
    private enum State {
        /// The event is not raised, and no task waits. Goes to `raised` or `waiting`.
        case idle
        /// The next wait returns at once. Goes to `idle`.
        case raised
        /// A task waits. Goes to `idle`, when raised or cancelled.
        case waiting(CheckedContinuation<Void, Never>)
    }

    private let state = Mutex(State.idle)

    /// Resumes the waiting task, or else lets the next wait return at once.
    func raise() {
        let waiter: CheckedContinuation<Void, Never>? = state.withLock { state in
            guard case .waiting(let waiter) = state else {
                state = .raised
                return nil
            }
            state = .idle
            return waiter
        }
        waiter?.resume()
    }

    /// Returns when the event is raised, or when the task is cancelled. One task may wait at a time.
    nonisolated(nonsending) func wait() async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let goesOn = state.withLock { state in
                    if case .raised = state {
                        state = .idle
                        return true
                    }
                    guard !Task.isCancelled else { return true }
                    state = .waiting(continuation)
                    return false
                }
                if goesOn { continuation.resume() }
            }
        } onCancel: {
            raise()
        }
    }

    /// Returns when the event is raised, when the deadline has passed, or when the task is cancelled.
    func wait(until deadline: MonotonicClock.Instant, on clock: any WorkerClock) async {
        await withTaskGroup { group in
            group.addTask { await self.wait() }
            group.addTask { try? await clock.sleep(until: deadline, tolerance: nil) }
            await group.next()
            group.cancelAll()
        }
    }
}
