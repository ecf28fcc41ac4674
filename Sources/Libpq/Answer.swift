import Synchronization

/// The answer to a call, which arrives in two parts: first the results of its statements, then how the call ended.
///
/// One task at a time may wait for it. If that task is cancelled, the call is cancelled too.
package final class Answer: Sendable {
    private struct State {
        var results: [QueryResult]?
        var end: Result<[QueryResult], PostgresError>?
        var waiter: CheckedContinuation<Void, Never>?
    }

    private let state = Mutex(State())
    private let cancel: @Sendable () -> Void

    /// - Parameter cancel: Requests the cancellation of the call, which still ends afterwards.
    init(cancel: @escaping @Sendable () -> Void) { self.cancel = cancel }

    /// Waits for the results, one a statement, in order. They may arrive before the transaction has been committed, so
    /// they are not certain before ``end()``.
    ///
    /// - Throws: the error of the first statement that failed, with its index in ``PostgresError/statement``.
    package nonisolated(nonsending) func results() async throws(PostgresError) -> [QueryResult] {
        while true {
            let (results, end) = state.withLock { ($0.results, $0.end) }
            if let end { return try end.get() }
            if let results { return results }
            await wait { $0.results != nil || $0.end != nil }
        }
    }

    /// Waits until the transaction, if the call was one, has been committed.
    ///
    /// - Returns: The results again.
    /// - Throws: the error of the first statement that failed, or of the commit.
    @discardableResult
    package nonisolated(nonsending) func end() async throws(PostgresError) -> [QueryResult] {
        while true {
            if let end = state.withLock(\.end) { return try end.get() }
            await wait { $0.end != nil }
        }
    }

    /// Records the results of all statements.
    func resultsArrived(_ results: [QueryResult]) {
        update { $0.results = results }
    }

    /// Records how the call ended. Called once.
    func ended(_ result: Result<[QueryResult], PostgresError>) {
        update { $0.end = result }
    }

    private func update(_ change: (inout State) -> Void) {
        let waiter = state.withLock { state in
            change(&state)
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume()
    }

    private nonisolated(nonsending) func wait(until isReady: (borrowing State) -> Bool) async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let goesOn = state.withLock { state in
                    if !isReady(state) { state.waiter = continuation }
                    return isReady(state)
                }
                if goesOn { continuation.resume() }
            }
        } onCancel: {
            cancel()
        }
    }
}
