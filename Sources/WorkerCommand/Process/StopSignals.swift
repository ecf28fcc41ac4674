import Foundation
import ServiceLifecycle
import Synchronization

/// Waits for SIGTERM or SIGINT, and returns: the service group then shuts down gracefully. Calls back on SIGHUP, where
/// that is wanted.
///
/// A second signal ends the process at once, with the status that shells know (128 and the signal's number), from
/// within the signal's handler: even where every thread is busy, `kill` works. This is why the group does not watch
/// the signals itself.
package struct StopSignals: Service {
    private let signals: AsyncStream<Int32>
    private let onHangup: (@Sendable () -> Void)?

    /// Takes the signals over from now on; SIGHUP too, if it is to do something.
    package init(onHangup: (@Sendable () -> Void)? = nil) {
        self.onHangup = onHangup
        signals = Self.install(onHangup == nil ? [SIGTERM, SIGINT] : [SIGTERM, SIGINT, SIGHUP])
    }

    package func run() async throws {
        for await signal in signals.cancelOnGracefulShutdown() {
            guard signal == SIGHUP else { return }
            onHangup?()
        }
    }

    /// How many signals came. Touched before the handler is installed, for a handler must not initialise it.
    private static let count = Atomic(0)
    /// The writing end of the pipe that the handler writes to; likewise.
    private static let pipeEnd = Atomic<Int32>(-1)

    private static func install(_ taken: [Int32]) -> AsyncStream<Int32> {
        let (stream, continuation) = AsyncStream.makeStream(of: Int32.self, bufferingPolicy: .bufferingNewest(8))
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { return stream }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        let reader = ends[0]
        count.store(0, ordering: .sequentiallyConsistent)
        pipeEnd.store(ends[1], ordering: .sequentiallyConsistent)
        // A handler may do little: count, write one byte, or leave.
        let handler: @convention(c) (Int32) -> Void = { signal in
            if signal != SIGHUP, StopSignals.count.add(1, ordering: .sequentiallyConsistent).oldValue > 0 {
                _exit(128 + signal)
            }
            var byte = UInt8(truncatingIfNeeded: signal)
            _ = write(StopSignals.pipeEnd.load(ordering: .sequentiallyConsistent), &byte, 1)
        }
        var action = sigaction()
        action.__sigaction_handler.sa_handler = handler
        action.sa_flags = Int32(SA_RESTART)
        for signal in taken { sigaction(signal, &action, nil) }
        // One thread for the life of the process, which sleeps in read() until the next signal.
        Thread.detachNewThread {
            var byte: UInt8 = 0
            while true {
                let count = read(reader, &byte, 1)
                if count == 1 { continuation.yield(Int32(byte)) }
                guard count == 1 || (count < 0 && errno == EINTR) else { return }
            }
        }
        return stream
    }
}
