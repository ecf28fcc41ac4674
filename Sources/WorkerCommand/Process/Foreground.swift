import Foundation
import Synchronization

/// A command that stays in the foreground for a while: its waits, and the signals that it reacts to.
///
/// SIGINT and SIGTERM ask it to stop, which it does at the next good place; a second one ends the process at once,
/// with the status that shells know (128 and the signal's number).
enum Foreground {
    /// Why a wait is over.
    enum Event: Equatable {
        /// The time is over.
        case time
        /// There is something to read.
        case input
        /// A signal came.
        case signal(Int32)
    }

    /// Takes SIGINT, SIGTERM and more signals over from now on. Once in a process.
    static func takeSignals(_ more: [Int32] = []) {
        var ends: [Int32] = [-1, -1]
        guard reader.load(ordering: .sequentiallyConsistent) < 0, pipe(&ends) == 0 else { return }
        for end in ends {
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
        }
        // Touched before the handler is installed, for a handler must not initialise them.
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

    /// The signal that asked the command to stop; nil as long as none did.
    static var stopSignal: Int32? {
        let signal = firstStop.load(ordering: .sequentiallyConsistent)
        return signal == 0 ? nil : signal
    }

    /// Waits until a signal comes, a descriptor can be read, the time is over, or the task is cancelled.
    ///
    /// - Parameters:
    ///   - duration: The longest wait. Once the command is asked to stop, no wait is long.
    ///   - input: The descriptor; nil for none.
    /// - Returns: The first of these that was there.
    static func wait(_ duration: Duration, input: Int32? = nil) async -> Event {
        let end = ContinuousClock.now + duration
        while true {
            // In slices, so that a cancelled task is not waited for. Sleeping in the kernel is done on a thread of
            // libdispatch, not on one of the few that run Swift's tasks.
            let left = max(.zero, ContinuousClock.now.duration(to: end))
            let slice = Int32(min(left / .milliseconds(1), 100).rounded(.up))
            let event = await withCheckedContinuation { continuation in
                DispatchQueue.global().async { continuation.resume(returning: look(input: input, milliseconds: slice)) }
            }
            if event != .time { return event }
            if stopSignal != nil || Task.isCancelled || ContinuousClock.now >= end { return .time }
        }
    }

    /// Does something, unless the command is asked to stop: then it is cancelled, and the result is nil.
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

    /// The first of the signals that ask to stop; 0 for none.
    private static let firstStop = Atomic<Int32>(0)
    /// The ends of the pipe through which the handler tells of signals.
    private static let reader = Atomic<Int32>(-1)
    private static let writer = Atomic<Int32>(-1)

    private static func look(input: Int32?, milliseconds: Int32) -> Event {
        // poll() passes over what is negative.
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
