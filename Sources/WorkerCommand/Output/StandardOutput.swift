import Foundation
import Glibc
import Synchronization

/// Writes standard output through a buffer.
///
/// ``failure`` keeps the error of a write that failed because the disk is full or the reader has gone. C's `stdio`
/// would lose this error at the end of the process.
enum StandardOutput {
    private struct State {
        var kept: [UInt8] = []
        var failure: Int32?
    }

    private static let state = Mutex(State())
    private static let most = 65536

    /// The error number (`errno`) of the first write that failed; nil if none did.
    static var failure: Int32? { state.withLock { $0.failure } }

    /// Appends one line, which is given without its line feed.
    static func write(_ line: String) {
        state.withLock { state in
            state.kept += line.utf8
            state.kept.append(UInt8(ascii: "\n"))
            if state.kept.count >= most { send(&state) }
        }
    }

    /// Writes the buffered bytes.
    ///
    /// - Returns: False when a write failed, now or before.
    @discardableResult
    static func flush() -> Bool {
        state.withLock { state in
            send(&state)
            return state.failure == nil
        }
    }

    private static func send(_ state: inout State) {
        var rest = state.kept[...]
        while !rest.isEmpty, state.failure == nil {
            let written = rest.withUnsafeBytes { Glibc.write(STDOUT_FILENO, $0.baseAddress, $0.count) }
            if written > 0 {
                rest = rest.dropFirst(written)
            } else if errno == EAGAIN {
                // Another process that shares the open file has made it non-blocking.
                var waiting = pollfd(fd: STDOUT_FILENO, events: Int16(POLLOUT), revents: 0)
                poll(&waiting, 1, -1)
            } else if errno != EINTR {
                state.failure = errno
            }
        }
        state.kept.removeAll(keepingCapacity: true)
    }

    /// Occupies the descriptors of standard streams that the process was started without. Otherwise a connection might
    /// get such a descriptor, and messages would be written to it. Writing to an output that was closed still fails, as
    /// it should.
    static func reserveClosedStreams() {
        for stream in [STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO] where !isOpen(stream) {
            if stream == STDOUT_FILENO { state.withLock { $0.failure = EBADF } }
            // `open` returns the lowest free descriptor, which is this one. Standard input is opened for writing only,
            // so that reading it fails.
            if fcntl(stream, F_GETFD) < 0 { _ = open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDWR) }
        }
    }

    /// Whether the process was started with this stream open. The Swift runtime starts earlier, and may have opened an
    /// anonymous inode of its own at a free descriptor.
    private static func isOpen(_ stream: Int32) -> Bool {
        let place = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\(stream)")
        return fcntl(stream, F_GETFD) >= 0 && place?.hasPrefix("anon_inode:") != true
    }
}
