import Foundation
import Logging

/// The format of log lines.
enum LogFormat: String, Sendable, CaseIterable {
    /// Text if standard error is a terminal, otherwise JSON.
    case auto
    /// For people: a time, the level, the message, then `key=value`.
    case text
    /// For machines: one JSON object a line.
    case json

    /// The format with `auto` resolved to text or JSON.
    var resolved: LogFormat {
        guard self == .auto else { return self }
        return isatty(STDERR_FILENO) == 1 ? .text : .json
    }

    /// A handler that writes in this format.
    ///
    /// - Parameters:
    ///   - label: The logger's label.
    ///   - level: The least important messages that are written.
    ///   - output: Receives whole lines.
    func handler(label: String, level: Logger.Level, output: any LogOutput) -> any LogHandler {
        LineLogHandler(label: label, logLevel: level, format: resolved, output: output)
    }

    /// Makes this the format of all loggers of the program. Call it once, before the first logger is made.
    func bootstrap(_ levels: LogLevels) {
        let format = resolved
        LoggingSystem.bootstrap { label in
            LineLogHandler(label: label, level: levels.level(of: label), format: format, output: LogQueue.standardError)
        }
    }
}

/// The destination of log lines.
protocol LogOutput: Sendable {
    /// Whether a short line can be written without waiting. Defaults to true.
    var hasRoom: Bool { get }
    /// Writes one whole line, which includes its line feed. May be called from any thread.
    func write(_ line: String)
}

extension LogOutput {
    var hasRoom: Bool { true }
}

/// Standard error. Each line is one `write`, so that the lines of several threads or processes do not mix.
struct StandardErrorOutput: LogOutput {
    var hasRoom: Bool {
        var stream = pollfd(fd: STDERR_FILENO, events: Int16(POLLOUT), revents: 0)
        // If standard error is closed, poll() reports that at once and a write does not block either.
        return poll(&stream, 1, 0) != 0
    }

    func write(_ line: String) {
        var line = line
        line.withUTF8 { bytes in
            var rest = bytes[...]
            while !rest.isEmpty {
                let written = rest.withUnsafeBytes { Foundation.write(STDERR_FILENO, $0.baseAddress, $0.count) }
                // The reader is gone or the disk is full. The line is dropped, because logging must not stop the work.
                guard written > 0 || errno == EINTR else { return }
                rest = rest.dropFirst(max(0, written))
            }
        }
    }
}
