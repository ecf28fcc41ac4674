import CLibcurl
import Dispatch
import Glibc
import Libpq
import Synchronization

/// A thread that sends requests.
///
/// Tasks put requests and cancellations into a queue and wake the thread. Only the thread uses its ``HTTPLoop``, which
/// resumes the tasks. The thread blocks signals: OpenSSL's writes raise SIGPIPE if the server has closed the connection,
/// which curl with `CURLOPT_NOSIGNAL` does not prevent.
final class HTTPThread: Sendable {
    private enum Command {
        case start(Int, HTTPRequest, CheckedContinuation<HTTPAnswer, Never>)
        case cancel(Int)
    }

    private struct Queue {
        var commands: [Command] = []
        /// Whether the thread waits, or is about to, and must be woken.
        var isWaiting = false
    }

    private let queue = Mutex(Queue())
    /// The descriptor that ends the thread's wait.
    private let wakeUp: CInt
    private let requests = Atomic(0)
    private let isRunning = Atomic(false)

    /// Starts the thread. Returns nil when no descriptor, thread or memory is left.
    ///
    /// - Parameter share: With how many threads of this kind it shares what the process may have.
    init?(share: Int) {
        wakeUp = eventfd(0, CInt(EFD_CLOEXEC | EFD_NONBLOCK))
        if wakeUp < 0 { return nil }
        // The loop is made on the thread, because no other may use it. Its descriptors are opened before this returns,
        // because they may be scarce once jobs run.
        let hasTried = DispatchSemaphore(value: 0)
        let hasThread = DetachedThread.start("breakwater-http") {
            let loop = HTTPLoop(wakeUp: self.wakeUp, share: share)
            self.isRunning.store(loop != nil, ordering: .releasing)
            hasTried.signal()
            if let loop { self.run(loop) }
        }
        if hasThread { hasTried.wait() }
        if !isRunning.load(ordering: .acquiring) {
            close(wakeUp)
            return nil
        }
    }

    /// How many requests it sends or will send.
    var requestCount: Int { requests.load(ordering: .relaxed) }

    /// Sends a request and waits for the answer without holding a thread.
    ///
    /// - Parameter id: A number that no other request has.
    func send(_ request: HTTPRequest, as id: Int) async -> HTTPAnswer {
        requests.add(1, ordering: .relaxed)
        defer { requests.subtract(1, ordering: .relaxed) }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                // The check is within the lock, so a cancellation that happens later queues its command after this one.
                let isCancelled = queue.withLock { queue in
                    if Task.isCancelled { return true }
                    add(.start(id, request, continuation), to: &queue)
                    return false
                }
                if isCancelled { continuation.resume(returning: .cancelled) }
            }
        } onCancel: {
            queue.withLock { add(.cancel(id), to: &$0) }
        }
    }

    private func add(_ command: Command, to queue: inout Queue) {
        queue.commands.append(command)
        guard queue.isWaiting else { return }
        queue.isWaiting = false
        var one: UInt64 = 1
        _ = write(wakeUp, &one, MemoryLayout<UInt64>.size)
    }

    private func run(_ loop: HTTPLoop) {
        while true {
            let commands = queue.withLock { queue in
                defer { queue.commands = [] }
                queue.isWaiting = queue.commands.isEmpty
                return queue.commands
            }
            for command in commands {
                switch command {
                case .start(let id, let request, let continuation): loop.start(id, request, continuation)
                case .cancel(let id): loop.cancel(id)
                }
            }
            loop.advance(mayWait: commands.isEmpty)
            queue.withLock { $0.isWaiting = false }
        }
    }
}
