import Foundation
import Synchronization

/// The waits and the signals of a command that stays in the foreground.
///
/// SIGINT and SIGTERM ask the command to stop, which it does at its next check. A second one ends the process at once,
/// with the conventional status of 128 plus the signal's number.
enum Foreground {
    /// The reason why a wait ended.
    enum Event: Equatable {
        /// The time has elapsed.
        case time
        /// The input can be read.
        case input
        /// A signal was received.
        case signal(Int32)
    }

    /// Installs handlers for SIGINT, SIGTERM and further signals. Only the first call in a process has an effect.
    static func installHandlers(_ more: [Int32] = []) {
        var ends: [Int32] = [-1, -1]
        guard reader.load(ordering: .sequentiallyConsistent) < 0, pipe(&ends) == 0 else { return }
        for end in ends {
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
        }
        // These statics are initialised before the handler is installed, because a signal handler must not initialise
        // them.
        firstStop.store(0, ordering: .sequentiallyConsistent)
        reader.store(ends[0], ordering: .sequentiallyConsistent)
        writer.store(ends[1], ordering: .sequentiallyConsistent)
        Screen.touchForHandlers()
        var action = sigaction()
        action.__sigaction_handler.sa_handler = { signal in
            if signal == SIGINT || signal == SIGTERM {
                let isFirst = Foreground.firstStop.compareExchange(
                    expected: 0,
                    desired: signal,
                    ordering: .sequentiallyConsistent
                ).exchanged
                if !isFirst {
                    Screen.restoreFromHandler()
                    _exit(128 + signal)
                }
            }
            let error = errno
            var byte = UInt8(truncatingIfNeeded: signal)
            _ = write(Foreground.writer.load(ordering: .sequentiallyConsistent), &byte, 1)
            errno = error
        }
        action.sa_flags = Int32(SA_RESTART)
        for signal in [SIGINT, SIGTERM] + more { sigaction(signal, &action, nil) }
    }

    /// The signal that asked the command to stop; nil if there was none.
    static var stopSignal: Int32? {
        let signal = firstStop.load(ordering: .sequentiallyConsistent)
        return signal == 0 ? nil : signal
    }

    /// Waits until a signal is received, a descriptor can be read, the time has elapsed, or the task is cancelled.
    ///
    /// - Parameters:
    ///   - duration: The longest wait. Once the command has been asked to stop, a wait ends early.
    ///   - input: The descriptor; nil for none.
    /// - Returns: The event that ended the wait.
    static func wait(_ duration: Duration, input: Int32? = nil) async -> Event {
        let end = ContinuousClock.now + duration
        while true {
            // The wait is cut into slices, so that the cancellation of the task is noticed. poll() blocks a thread of
            // libdispatch rather than one of the few threads that run Swift tasks.
            let left = max(.zero, ContinuousClock.now.duration(to: end))
            let slice = Int32(min(left / .milliseconds(1), 100).rounded(.up))
            let event = await withCheckedContinuation { continuation in
                DispatchQueue.global().async {
                    continuation.resume(returning: waitForEvent(input: input, milliseconds: slice))
                }
            }
            if event != .time { return event }
            if stopSignal != nil || Task.isCancelled || ContinuousClock.now >= end { return .time }
        }
    }

    /// Runs `body`. If the command is asked to stop meanwhile, cancels `body` and returns nil.
    static func unlessStopped<Value: Sendable>(
        _ body: @Sendable @escaping () async throws -> Value
    ) async throws -> Value? {
        try await withThrowingTaskGroup(of: Value?.self) { group in
            group.addTask { try await body() }
            group.addTask {
                while stopSignal == nil, !Task.isCancelled { try? await Task.sleep(for: .milliseconds(50)) }
                return nil
            }
            defer { group.cancelAll() }
            return try await group.next() ?? nil
        }
    }

    /// The first signal that asked the command to stop; 0 for none.
    private static let firstStop = Atomic<Int32>(0)
    /// The ends of the pipe to which the signal handler writes.
    private static let reader = Atomic<Int32>(-1)
    private static let writer = Atomic<Int32>(-1)

    private static func waitForEvent(input: Int32?, milliseconds: Int32) -> Event {
        // poll() ignores negative descriptors.
        var descriptors = [
            pollfd(fd: reader.load(ordering: .sequentiallyConsistent), events: Int16(POLLIN), revents: 0),
            pollfd(fd: input ?? -1, events: Int16(POLLIN), revents: 0),
        ]
        guard poll(&descriptors, 2, milliseconds) > 0 else { return .time }
        var byte: UInt8 = 0
        if descriptors[0].revents != 0, read(descriptors[0].fd, &byte, 1) == 1 { return .signal(Int32(byte)) }
        return descriptors[1].revents != 0 ? .input : .time
    }
}
