import Foundation
import ServiceLifecycle
import Synchronization

/// Returns when SIGTERM or SIGINT is received, whereupon the service group shuts down gracefully. Calls `onHangup`, if
/// there is one, on SIGHUP.
///
/// A second signal ends the process at once, with the conventional status of 128 plus the signal's number. The signal
/// handler itself does this, so `kill` works even if every thread is busy. For this reason the service group does not
/// watch the signals.
package struct StopSignals: Service {
    private let signals: AsyncStream<Int32>
    private let onHangup: (@Sendable () -> Void)?

    /// Installs the handlers. SIGHUP is handled only if there is an `onHangup`.
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

    /// How many signals were received. It is initialised before the handler is installed, because a signal handler must
    /// not initialise it.
    private static let count = Atomic(0)
    /// The end of the pipe to which the handler writes. It is initialised early for the same reason.
    private static let pipeEnd = Atomic<Int32>(-1)

    private static func install(_ taken: [Int32]) -> AsyncStream<Int32> {
        let (stream, continuation) = AsyncStream.makeStream(of: Int32.self, bufferingPolicy: .bufferingNewest(8))
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { return stream }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        let reader = ends[0]
        count.store(0, ordering: .sequentiallyConsistent)
        pipeEnd.store(ends[1], ordering: .sequentiallyConsistent)
        // A signal handler may only make async-signal-safe calls: this one counts, writes one byte, or exits.
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
        // This thread lives as long as the process, and blocks in read() until the next signal.
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
