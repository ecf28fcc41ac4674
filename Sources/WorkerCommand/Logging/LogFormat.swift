import Foundation
import Logging

/// How log lines look.
enum LogFormat: String, Sendable, CaseIterable {
    /// Text when standard error is a terminal, JSON otherwise.
    case auto
    /// For people: a time, the level, the message, then `key=value`.
    case text
    /// For machines: one JSON object a line.
    case json

    /// Text or JSON, decided.
    var resolved: LogFormat {
        guard self == .auto else { return self }
        return isatty(STDERR_FILENO) == 1 ? .text : .json
    }

    /// A handler that writes in this format.
    ///
    /// - Parameters:
    ///   - label: The logger's label.
    ///   - level: The least important messages that are written.
    ///   - output: Where whole lines go.
    func handler(label: String, level: Logger.Level, output: any LogOutput) -> any LogHandler {
        LineLogHandler(label: label, logLevel: level, format: resolved, output: output)
    }

    /// Makes this format the program's own. Call it once, before the first logger is made.
    func bootstrap(_ levels: LogLevels) {
        let format = resolved
        LoggingSystem.bootstrap { label in
            LineLogHandler(label: label, level: levels.level(of: label), format: format, output: LogQueue.standardError)
        }
    }
}

/// Where log lines go.
protocol LogOutput: Sendable {
    /// Whether a short line can be written without waiting. Defaults to true.
    var hasRoom: Bool { get }
    /// Takes one whole line with its line feed; from any thread.
    func write(_ line: String)
}

extension LogOutput {
    var hasRoom: Bool { true }
}

/// Standard error: one `write` for each line, so that the lines of several threads or processes do not mix.
struct StandardErrorOutput: LogOutput {
    var hasRoom: Bool {
        var stream = pollfd(fd: STDERR_FILENO, events: Int16(POLLOUT), revents: 0)
        // What is no more, or was never there, takes no time either.
        return poll(&stream, 1, 0) != 0
    }

    func write(_ line: String) {
        var line = line
        line.withUTF8 { bytes in
            var rest = bytes[...]
            while !rest.isEmpty {
                let written = rest.withUnsafeBytes { Foundation.write(STDERR_FILENO, $0.baseAddress, $0.count) }
                // Nobody reads any more, or the disk is full: a log line is not worth more than the work.
                guard written > 0 || errno == EINTR else { return }
                rest = rest.dropFirst(max(0, written))
            }
        }
    }
}
