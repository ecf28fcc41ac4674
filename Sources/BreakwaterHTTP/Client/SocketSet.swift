import CLibcurl
import Glibc

/// The sockets that curl waits for, and the descriptor by which other threads end the wait.
///
/// Curl loses interest in a connection when its request ends, and regains it with the next one. The set goes on watching
/// a kept connection in between, because two system calls for each request would cost more than the rest of the wait.
final class SocketSet {
    /// A socket that is ready, and for what, as flags of `curl_multi_socket_action`.
    struct Ready { let socket, flags: CInt }

    private struct Socket {
        /// What curl waits for, as flags of epoll; 0 for nothing.
        var wanted: UInt32 = 0
        /// What epoll watches.
        var watched: UInt32 = 0
        /// Whether it is a connection's, opened by ``opened(_:)``, and not one of curl's own for its resolver.
        var isConnection = false
    }

    /// The most sockets that one wait reports.
    private static let batch = 64

    private let set: CInt
    private let wakeUp: CInt
    /// By descriptor.
    private var sockets: [Socket] = []

    /// Returns nil when the process has no descriptor left.
    ///
    /// - Parameter wakeUp: The descriptor of an event that ends a wait.
    init?(wakeUp: CInt) {
        set = epoll_create1(CInt(EPOLL_CLOEXEC))
        self.wakeUp = wakeUp
        if set < 0 || breakwater_watch_socket(set, EPOLL_CTL_ADD, wakeUp, EPOLLIN.rawValue) != 0 { return nil }
    }

    deinit { if set >= 0 { close(set) } }

    /// The set that curl got as the context of a callback.
    static func from(_ context: UnsafeMutableRawPointer?) -> SocketSet {
        // `HTTPTransfer` gave curl this object, which lives as long as the thread.
        Unmanaged.fromOpaque(context!).takeUnretainedValue()
    }

    /// Notes a new connection's socket.
    func opened(_ descriptor: CInt) { self[descriptor] = Socket(isConnection: true) }

    /// Closes a connection's socket. The system then no longer watches it.
    func closeSocket(_ descriptor: CInt) -> CInt {
        self[descriptor] = Socket()
        return close(descriptor)
    }

    /// Sets what curl waits for on a socket.
    ///
    /// - Parameter interest: `CURL_POLL_IN`, `CURL_POLL_OUT`, `CURL_POLL_INOUT`, or `CURL_POLL_REMOVE` for nothing.
    func want(_ interest: CInt, on descriptor: CInt) {
        let wanted: UInt32 =
            switch interest {
            case CURL_POLL_IN: EPOLLIN.rawValue
            case CURL_POLL_OUT: EPOLLOUT.rawValue
            case CURL_POLL_INOUT: EPOLLIN.rawValue | EPOLLOUT.rawValue
            default: 0
            }
        self[descriptor].wanted = wanted
        if wanted != 0 || !self[descriptor].isConnection { watch(descriptor) }
    }

    /// Waits until a socket is ready for what curl wants, another thread sets the event, or the time is over.
    ///
    /// - Returns: The sockets that are ready.
    func wait(milliseconds: CInt) -> [Ready] {
        let ready = [breakwater_ready_socket](unsafeUninitializedCapacity: Self.batch) { buffer, count in
            let ready = breakwater_wait_for_sockets(set, buffer.baseAddress, CInt(Self.batch), milliseconds)
            count = Int(max(0, ready))
        }
        return ready.compactMap { ready in
            if ready.socket == wakeUp {
                var count: UInt64 = 0
                _ = read(wakeUp, &count, MemoryLayout<UInt64>.size)
                return nil
            }
            if self[ready.socket].wanted != 0 { return Ready(socket: ready.socket, flags: ready.flags) }
            // The server has closed a kept connection, or has sent something that nobody asked for. Curl finds out when
            // it is about to use it.
            watch(ready.socket)
            return nil
        }
    }

    /// Makes epoll watch what curl wants.
    private func watch(_ descriptor: CInt) {
        let socket = self[descriptor]
        guard socket.wanted != socket.watched else { return }
        let operation =
            socket.wanted == 0 ? EPOLL_CTL_DEL : socket.watched == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD
        _ = breakwater_watch_socket(set, operation, descriptor, socket.wanted)
        self[descriptor].watched = socket.wanted
    }

    private subscript(descriptor: CInt) -> Socket {
        get { Int(descriptor) < sockets.count ? sockets[Int(descriptor)] : Socket() }
        set {
            while sockets.count <= Int(descriptor) { sockets.append(Socket()) }
            sockets[Int(descriptor)] = newValue
        }
    }
}
