import CLibcurl
import Glibc

/// The sockets that curl waits for, and a descriptor by which other threads end the wait.
///
/// Curl loses interest in a connection when its request ends, and regains it with the next one. The set goes on watching
/// a kept connection in between, because two system calls for each request would cost more than the rest of the wait.
final class SocketSet: @unchecked Sendable {
    // Only one thread uses the set, except for `wake`, which needs only the descriptor.

    typealias Ready = breakwater_ready_socket

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
    private let event: CInt
    /// By descriptor.
    private var sockets: [Socket] = []

    /// Returns nil when the process has no descriptor left.
    init?() {
        let set = epoll_create1(CInt(EPOLL_CLOEXEC))
        let event = eventfd(0, CInt(EFD_CLOEXEC | EFD_NONBLOCK))
        guard set >= 0, event >= 0, breakwater_watch_socket(set, EPOLL_CTL_ADD, event, EPOLLIN.rawValue) == 0 else {
            if set >= 0 { close(set) }
            if event >= 0 { close(event) }
            return nil
        }
        self.set = set
        self.event = event
    }

    deinit {
        close(set)
        close(event)
    }

    /// The set that curl got as the context of a callback.
    static func from(_ context: UnsafeMutableRawPointer?) -> SocketSet {
        Unmanaged.fromOpaque(context!).takeUnretainedValue()
    }

    /// Ends the current wait, or the next one.
    func wake() {
        var one: UInt64 = 1
        _ = write(event, &one, MemoryLayout<UInt64>.size)
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

    /// Waits until a socket is ready for what curl wants, a thread calls ``wake()``, or the time is over.
    ///
    /// - Returns: The sockets that are ready.
    func wait(milliseconds: CInt) -> [Ready] {
        let ready = [Ready](unsafeUninitializedCapacity: Self.batch) { buffer, count in
            let ready = breakwater_wait_for_sockets(set, buffer.baseAddress, CInt(Self.batch), milliseconds)
            count = Int(max(0, ready))
        }
        return ready.filter { ready in
            if ready.socket == event {
                var count: UInt64 = 0
                _ = read(event, &count, MemoryLayout<UInt64>.size)
                return false
            }
            if self[ready.socket].wanted != 0 { return true }
            // The server has closed a kept connection, or has sent something that nobody asked for. Curl finds out when
            // it is about to use it.
            watch(ready.socket)
            return false
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
