import Synchronization

/// The settlement of one run by its plugin.
///
/// The plugin runs ``settle(result:)`` in its transaction, and commits only if the job was still held. Then it calls
/// ``committed()``, and the worker does not settle the run again.
package final class RunSettlement: Sendable {
    private let make: @Sendable (_ result: String?) -> Settle
    private let state = Mutex(false)

    /// - Parameter make: Makes the settle of the run as a success with a result.
    init(_ make: @escaping @Sendable (_ result: String?) -> Settle) { self.make = make }

    /// The call that settles the run as a success. It is made when the work is done, because it includes the time that
    /// the run took.
    ///
    /// - Parameter result: The result as JSON text, if any.
    package func settle(result: String?) -> Settle { make(result) }

    /// Records that the transaction with the settle has been committed.
    package func committed() { state.withLock { $0 = true } }

    /// Whether the run is settled.
    package var isCommitted: Bool { state.withLock { $0 } }
}

extension Settle {
    /// Whether the answer says that the worker still held the job of this single run.
    package static func isHeld(_ answer: Output) -> Bool { answer.settled == 1 && answer.stale.isEmpty }
}
