import Breakwater
import CLibcurl
import Glibc

/// The requests that a thread processes. Only that thread uses this object.
///
/// Curl says for which sockets and until when it waits, and is told which are ready. This costs as much as the requests
/// that go on, and not as much as those that wait.
final class HTTPLoop {
    /// The most idle connections that are kept after fewer requests than this ran at once, and the most handles without a
    /// request.
    private static let maximumIdleConnections = 256
    /// The longest time that the thread sleeps. Curl's own timers and wake-ups end the sleep earlier.
    private static let longestSleep = Duration.seconds(60)

    private let multi: UnsafeMutableRawPointer
    private let sockets: SocketSet
    private let maximumIdle: Int
    /// The most connections that curl keeps, in use or idle.
    private var maximumConnections = 0
    private var transfers: [Int: (HTTPTransfer, CheckedContinuation<HTTPAnswer, Never>)] = [:]
    /// Handles without a request.
    private var idleHandles: [UnsafeMutableRawPointer] = []
    /// When curl wants to be called again although no socket is ready.
    private var deadline: ContinuousClock.Instant?

    /// Returns nil when no memory or no descriptor is left.
    ///
    /// - Parameters:
    ///   - wakeUp: The descriptor of an event that ends a wait.
    ///   - share: With how many others of its kind it shares the descriptors of the process.
    init?(wakeUp: CInt, share: Int) {
        guard let sockets = SocketSet(wakeUp: wakeUp), curl_global_init(Int(CURL_GLOBAL_DEFAULT)) == CURLE_OK,
            let multi = curl_multi_init()
        else { return nil }
        self.multi = multi
        self.sockets = sockets
        // If few files may be open, idle connections must leave some descriptors for the rest of the process.
        maximumIdle = max(1, min(Self.maximumIdleConnections, ProcessLimits.openFiles / 4) / share)
        keepConnections(maximumIdle)
        // The object is not retained here, because the thread keeps it as long as the process runs.
        let context = Unmanaged.passUnretained(self).toOpaque()
        breakwater_multi_set_callbacks(
            multi,
            { _, socket, interest, context, _ in
                HTTPLoop.from(context).sockets.want(interest, on: socket)
                return 0
            },
            { _, milliseconds, context in
                HTTPLoop.from(context).deadline = milliseconds < 0 ? nil : .now + .milliseconds(milliseconds)
                return 0
            },
            context
        )
    }

    private static func from(_ context: UnsafeMutableRawPointer?) -> HTTPLoop {
        // `init` gave curl this object, which lives as long as the thread.
        Unmanaged.fromOpaque(context!).takeUnretainedValue()
    }

    /// Begins a request. The continuation is resumed once, with its answer.
    func start(_ id: Int, _ request: HTTPRequest, _ continuation: CheckedContinuation<HTTPAnswer, Never>) {
        guard let easy = idleHandles.popLast() ?? curl_easy_init() else {
            continuation.resume(returning: .failure(CURLM_OUT_OF_MEMORY))
            return
        }
        let transfer = HTTPTransfer(id, request, on: easy, sockets)
        let result = curl_multi_add_handle(multi, easy)
        guard result == CURLM_OK else {
            release(easy)
            continuation.resume(returning: .failure(result))
            return
        }
        transfers[id] = (transfer, continuation)
        if transfers.count > maximumConnections { keepConnections(transfers.count) }
    }

    /// Sets how many connections curl keeps. With fewer than there are requests at once, it would close one connection
    /// after another, only to open them again.
    private func keepConnections(_ count: Int) {
        maximumConnections = count
        breakwater_multi_set_long(multi, CURLMOPT_MAXCONNECTS, count)
    }

    /// Ends a request, and closes its connection. Does nothing if it has ended.
    func cancel(_ id: Int) { end(id, with: .cancelled) }

    /// Lets the requests go on whose sockets are ready or whose time has come.
    ///
    /// - Parameter mayWait: Whether to wait until there is one, or until the thread is woken.
    func advance(mayWait: Bool) {
        let ready = sockets.wait(milliseconds: mayWait ? sleepMilliseconds() : 0)
        for ready in ready { act(on: ready.socket, ready.flags) }
        if let deadline, deadline <= .now {
            self.deadline = nil
            act(on: CURL_SOCKET_TIMEOUT, 0)
        }
        var left: Int32 = 0
        while let message = curl_multi_info_read(multi, &left)?.pointee {
            guard message.msg == CURLMSG_DONE, let easy = message.easy_handle else { continue }
            let transfer = HTTPTransfer.of(easy)
            end(transfer.id, with: transfer.answer(message.data.result))
        }
    }

    /// How long the thread may sleep, rounded up so that the deadline has passed afterwards.
    private func sleepMilliseconds() -> CInt {
        let time = deadline.map { max(.zero, min(Self.longestSleep, $0 - .now)) } ?? Self.longestSleep
        return CInt(time.inMilliseconds)
    }

    private func act(on socket: curl_socket_t, _ flags: CInt) {
        var running: CInt = 0
        let result = curl_multi_socket_action(multi, socket, flags, &running)
        guard result != CURLM_OK else { return }
        // After such an error the state of the running transfers is unknown.
        for id in Array(transfers.keys) { end(id, with: .failure(result)) }
    }

    /// Removes the request and resumes its task. This closes the connection unless the answer is complete.
    private func end(_ id: Int, with answer: HTTPAnswer) {
        guard let (transfer, continuation) = transfers.removeValue(forKey: id) else { return }
        curl_multi_remove_handle(multi, transfer.easy)
        release(transfer.easy)
        if transfers.isEmpty, maximumConnections > maximumIdle { keepConnections(maximumIdle) }
        continuation.resume(returning: answer)
    }

    private func release(_ easy: UnsafeMutableRawPointer) {
        if idleHandles.count < maximumIdle {
            curl_easy_reset(easy)
            idleHandles.append(easy)
        } else {
            curl_easy_cleanup(easy)
        }
    }
}

extension HTTPAnswer {
    fileprivate static func failure(_ result: CURLMcode) -> HTTPAnswer {
        if result == CURLM_OUT_OF_MEMORY { return .failure(HTTPTransferFailure(missing: .memoryForRequest)) }
        return .failure(HTTPTransferFailure(code: .client, reason: String(cString: curl_multi_strerror(result))))
    }
}
