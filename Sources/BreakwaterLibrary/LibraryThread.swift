import Dispatch
import Glibc
import Libpq
import Synchronization

/// A thread that does one thing after another, and waits between them.
final class LibraryThread: Sendable {
    private let work = Mutex<[CallQueue.Work]>([])
    private let signal = DispatchSemaphore(value: 0)
    private let thread = Mutex<pthread_t?>(nil)

    /// Starts the thread.
    ///
    /// - Parameters:
    ///   - stackBytes: The size of its stack.
    ///   - perform: Does one piece of work. The thread calls it for each piece, in order.
    /// - Returns: False when the system cannot create a thread.
    func start(stackBytes: Int, _ perform: @escaping @Sendable (CallQueue.Work) -> Void) -> Bool {
        let started = DetachedThread.startJoinable("library", stackBytes: stackBytes) {
            while true {
                let next = self.take()
                guard next != .end else { return }
                perform(next)
            }
        }
        thread.withLock { $0 = started }
        return started != nil
    }

    /// Lets the thread do something after what it was given before.
    func give(_ next: CallQueue.Work) {
        work.withLock { $0.append(next) }
        signal.signal()
    }

    /// Blocks until the thread has ended. It ends after ``CallQueue/Work/end``.
    func join() {
        let started = thread.withLock { thread in
            defer { thread = nil }
            return thread
        }
        if let started { DetachedThread.end(started) }
    }

    private func take() -> CallQueue.Work {
        signal.wait()
        return work.withLock { $0.removeFirst() }
    }
}
