import CLibcurl
import Foundation
import Synchronization

/// A thread that sends requests.
///
/// Tasks put requests and cancellations into a queue and wake the thread. Only the thread uses its ``HTTPLoop``, which
/// resumes the tasks.
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
    private let sockets: SocketSet
    private let requests = Atomic(0)

    /// Starts the thread.
    ///
    /// - Parameter share: With how many threads of this kind it shares what the process may have.
    init(share: Int) {
        // Both fail only when no memory or no descriptor is left.
        guard let sockets = SocketSet(), let loop = HTTPLoop(sockets, share: share) else {
            fatalError("libcurl could not be initialised")
        }
        self.sockets = sockets
        // Only the thread uses the loop from now on.
        nonisolated(unsafe) let started = loop
        let thread = Thread { self.run(started) }
        thread.name = "breakwater-http"
        thread.start()
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
        sockets.wake()
    }

    private func run(_ loop: HTTPLoop) {
        blockBrokenPipes()
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

    /// Blocks SIGPIPE on this thread. OpenSSL's writes raise SIGPIPE if the server has closed the connection, and curl
    /// with `CURLOPT_NOSIGNAL` does not prevent this. The kernel sends the signal to the thread that wrote.
    private func blockBrokenPipes() {
        var signals = sigset_t()
        sigemptyset(&signals)
        sigaddset(&signals, SIGPIPE)
        pthread_sigmask(SIG_BLOCK, &signals, nil)
    }
}
