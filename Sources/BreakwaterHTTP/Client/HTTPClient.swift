import Breakwater
import CLibcurl
import Foundation
import Synchronization

/// Sends the requests of every handler in the process on one thread, which waits for all their sockets.
///
/// Tasks put requests and cancellations into a queue and wake the thread. Only the thread uses curl's handles, and it
/// resumes the tasks. Connections are kept open and reused.
final class HTTPClient: Sendable {
    /// The process's client. Its thread starts with the first handler or request and runs as long as the process.
    static let shared = HTTPClient()

    /// The most idle connections that are kept.
    private static let maximumIdleConnections = 256
    /// The longest time that the thread sleeps. Curl's own timers and wake-ups end the sleep earlier.
    private static let idlePollMilliseconds: Int32 = 60_000

    private enum Command {
        case start(Int, HTTPRequest, CheckedContinuation<HTTPAnswer, Never>)
        case cancel(Int)
    }

    private struct Queue {
        var commands: [Command] = []
        var lastID = 0
    }

    /// Sendable because other threads use the handle only for `curl_multi_wakeup`, which curl allows.
    private struct MultiHandle: @unchecked Sendable {
        let pointer: UnsafeMutableRawPointer
    }

    private let queue = Mutex(Queue())
    private let multi: MultiHandle

    private init() {
        // Both calls fail only when no memory is left.
        guard curl_global_init(Int(CURL_GLOBAL_DEFAULT)) == CURLE_OK, let pointer = curl_multi_init() else {
            fatalError("libcurl could not be initialised")
        }
        multi = MultiHandle(pointer: pointer)
        // If few files may be open, idle connections must leave some descriptors for the rest of the process.
        let idle = min(Self.maximumIdleConnections, ProcessLimits.openFiles / 4)
        breakwater_multi_set_long(pointer, CURLMOPT_MAXCONNECTS, max(1, idle))
        let thread = Thread { self.loop() }
        thread.name = "breakwater-http"
        thread.start()
    }

    /// Sends a request and waits for the answer without holding a thread.
    ///
    /// Cancellation closes the request's connection and ends the wait promptly.
    func send(_ request: HTTPRequest) async -> HTTPAnswer {
        let id = queue.withLock { queue in
            queue.lastID += 1
            return queue.lastID
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isCancelled = queue.withLock { queue in
                    // The check is within the lock, so a cancellation that happens later queues its command after this
                    // one.
                    if Task.isCancelled { return true }
                    queue.commands.append(.start(id, request, continuation))
                    return false
                }
                if isCancelled {
                    continuation.resume(returning: .cancelled)
                } else {
                    curl_multi_wakeup(multi.pointer)
                }
            }
        } onCancel: {
            queue.withLock { $0.commands.append(.cancel(id)) }
            curl_multi_wakeup(multi.pointer)
        }
    }

    // MARK: The thread

    /// The requests that the thread is processing.
    private struct Work {
        var transfers: [Int: HTTPTransfer] = [:]
        var continuations: [Int: CheckedContinuation<HTTPAnswer, Never>] = [:]
        var ids: [UnsafeMutableRawPointer: Int] = [:]
    }

    private func loop() {
        blockBrokenPipes()
        var work = Work()
        while true {
            let commands = queue.withLock { queue in
                defer { queue.commands = [] }
                return queue.commands
            }
            for command in commands {
                switch command {
                case .start(let id, let request, let continuation): start(id, request, continuation, &work)
                case .cancel(let id): end(id, with: .cancelled, &work)
                }
            }
            var running: Int32 = 0
            let result = curl_multi_perform(multi.pointer, &running)
            collect(&work)
            if result != CURLM_OK {
                // After such an error the state of the running transfers is unknown.
                for id in Array(work.transfers.keys) { end(id, with: .failure(result), &work) }
            }
            curl_multi_poll(multi.pointer, nil, 0, Self.idlePollMilliseconds, nil)
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

    private func start(
        _ id: Int,
        _ request: HTTPRequest,
        _ continuation: CheckedContinuation<HTTPAnswer, Never>,
        _ work: inout Work
    ) {
        guard let transfer = HTTPTransfer(request) else {
            continuation.resume(returning: .failure(CURLM_OUT_OF_MEMORY))
            return
        }
        let result = curl_multi_add_handle(multi.pointer, transfer.easy)
        guard result == CURLM_OK else {
            continuation.resume(returning: .failure(result))
            return
        }
        work.transfers[id] = transfer
        work.continuations[id] = continuation
        work.ids[transfer.easy] = id
    }

    private func collect(_ work: inout Work) {
        var left: Int32 = 0
        while let message = curl_multi_info_read(multi.pointer, &left)?.pointee {
            guard message.msg == CURLMSG_DONE, let easy = message.easy_handle, let id = work.ids[easy],
                let transfer = work.transfers[id]
            else { continue }
            end(id, with: transfer.answer(message.data.result), &work)
        }
    }

    /// Removes the request and resumes its task. This closes the connection unless the answer is complete.
    private func end(_ id: Int, with answer: HTTPAnswer, _ work: inout Work) {
        guard let transfer = work.transfers.removeValue(forKey: id) else { return }
        work.ids[transfer.easy] = nil
        curl_multi_remove_handle(multi.pointer, transfer.easy)
        work.continuations.removeValue(forKey: id)?.resume(returning: answer)
    }
}

extension HTTPAnswer {
    fileprivate static func failure(_ result: CURLMcode) -> HTTPAnswer {
        if result == CURLM_OUT_OF_MEMORY { return .failure(HTTPTransferFailure(missing: .memoryForRequest)) }
        return .failure(HTTPTransferFailure(code: .client, reason: String(cString: curl_multi_strerror(result))))
    }
}
