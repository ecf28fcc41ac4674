import Dispatch
import Logging
import Synchronization

/// Writes log lines without ever blocking the code that logs: a pipe may have no reader, and a user may have stopped
/// the terminal.
///
/// A line is written at once if there is room for it. Otherwise it waits, and so do the lines behind it. While more
/// than ``most`` bytes wait, further lines are dropped. Once half of that is written, a line of the log counts the
/// dropped ones.
final class LogQueue: LogOutput {
    /// The queue for standard error, for the program's own log.
    static let standardError = LogQueue(StandardErrorOutput()) { dropped in
        Logger(label: "breakwater").warning(
            "log lines were dropped because standard error was not read",
            metadata: ["dropped_lines": .stringConvertible(dropped)]
        )
    }

    private struct State {
        var waiting = 0
        var dropped = 0
    }

    /// How many bytes may wait: some ten thousand lines.
    private static let most = 4 << 20
    /// A pipe that has room has room for this (`PIPE_BUF`).
    private static let sure = 4096

    private let output: any LogOutput
    private let report: @Sendable (Int) -> Void
    private let queue = DispatchQueue(label: "breakwater.log")
    private let state = Mutex(State())

    /// - Parameters:
    ///   - output: Receives the lines.
    ///   - report: Reports how many lines were dropped.
    init(_ output: any LogOutput, report: @escaping @Sendable (Int) -> Void) {
        self.output = output
        self.report = report
    }

    func write(_ line: String) {
        let size = line.utf8.count
        let mustWait = state.withLock { state in
            if state.waiting == 0, size <= Self.sure, output.hasRoom {
                output.write(line)
                return false
            }
            guard state.waiting < Self.most else {
                state.dropped += 1
                return false
            }
            state.waiting += size
            return true
        }
        if mustWait { queue.async { self.writeWaiting(line, size) } }
    }

    private func writeWaiting(_ line: String, _ size: Int) {
        output.write(line)
        let dropped = state.withLock { state in
            state.waiting -= size
            guard state.waiting <= Self.most / 2 else { return 0 }
            defer { state.dropped = 0 }
            return state.dropped
        }
        if dropped > 0 { report(dropped) }
    }

    /// Waits until the lines that were logged before are written, but no longer than this.
    func flush(upTo time: DispatchTimeInterval) {
        let written = DispatchSemaphore(value: 0)
        queue.async { written.signal() }
        _ = written.wait(timeout: .now() + time)
    }
}
