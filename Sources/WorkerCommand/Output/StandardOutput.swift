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

    /// Takes one line, without its line feed.
    static func write(_ line: String) {
        state.withLock { state in
            state.kept += line.utf8
            state.kept.append(UInt8(ascii: "\n"))
            if state.kept.count >= most { send(&state) }
        }
    }

    /// Sends on what is kept.
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
                // Another process that has the same file open made it non-blocking.
                var waiting = pollfd(fd: STDOUT_FILENO, events: Int16(POLLOUT), revents: 0)
                poll(&waiting, 1, -1)
            } else if errno != EINTR {
                state.failure = errno
            }
        }
        state.kept.removeAll(keepingCapacity: true)
    }

    /// Lets nothing else get the numbers of standard streams that the process was started without, such as a connection
    /// that messages would then be written to. Writing to an output that was closed fails, as it should.
    static func reserveClosedStreams() {
        for stream in [STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO] where !isOpen(stream) {
            if stream == STDOUT_FILENO { state.withLock { $0.failure = EBADF } }
            // The lowest number that is free: this one. From what is written only, nothing can be read.
            if fcntl(stream, F_GETFD) < 0 { _ = open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDWR) }
        }
    }

    /// Whether this is what the process was started with. The runtime begins before any of this, and may have put
    /// something of its own in its place, which is no file.
    private static func isOpen(_ stream: Int32) -> Bool {
        let place = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\(stream)")
        return fcntl(stream, F_GETFD) >= 0 && place?.hasPrefix("anon_inode:") != true
    }
}
