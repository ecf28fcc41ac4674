import Breakwater
import CLibcurl
import Foundation
import Synchronization

/// Sends the requests of every handler in the process, on one thread of its own that waits for all their sockets.
///
/// Tasks hand over requests and cancellations through a queue and wake the thread; the thread alone touches curl's
/// handles, and resumes the tasks. Connections are kept open and used again.
final class HTTPClient: Sendable {
    /// The one client. Its thread begins with the first handler or request and lasts as long as the process.
    static let shared = HTTPClient()

    /// How many idle connections are kept at most.
    private static let maximumIdleConnections = 256
    /// How long the thread sleeps when nothing happens; curl's own timers and wake-ups end it sooner.
    private static let idlePollMilliseconds: Int32 = 60_000

    private enum Command {
        case start(Int, HTTPRequest, CheckedContinuation<HTTPAnswer, Never>)
        case cancel(Int)
    }

    private struct Queue {
        var commands: [Command] = []
        var lastID = 0
    }

    /// Sendable because another thread than the client's uses it only for `curl_multi_wakeup`, which curl allows.
    private struct MultiHandle: @unchecked Sendable {
        let pointer: UnsafeMutableRawPointer
    }

    private let queue = Mutex(Queue())
    private let multi: MultiHandle

    private init() {
        // Both fail only when memory is out.
        guard curl_global_init(Int(CURL_GLOBAL_DEFAULT)) == CURLE_OK, let pointer = curl_multi_init() else {
            fatalError("libcurl could not be initialised")
        }
        multi = MultiHandle(pointer: pointer)
        // Where few files may be open, idle connections must leave some for whatever else this process does.
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
                    // Checked within the lock: a cancellation that is not seen here queues its command after this one.
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

    /// What the thread works on.
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
                // Nothing that runs can be relied on any more.
                for id in Array(work.transfers.keys) { end(id, with: .failure(result), &work) }
            }
            curl_multi_poll(multi.pointer, nil, 0, Self.idlePollMilliseconds, nil)
        }
    }

    /// OpenSSL writes to sockets in a way that raises SIGPIPE when the server has hung up; without its own signal
    /// handling (`CURLOPT_NOSIGNAL`), curl leaves that to its user. The signal comes to the thread that wrote.
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

    /// Removes the request, which closes its connection unless the answer is whole, and resumes its task.
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
