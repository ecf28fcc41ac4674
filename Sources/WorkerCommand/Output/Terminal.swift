import Foundation

/// The output of this process for people and programs.
package enum Terminal {
    /// The width of standard output in columns; nil if it is not a terminal, so that lines may be of any length.
    ///
    /// `COLUMNS` takes precedence if it is set, even if standard output is not a terminal.
    static var width: Int? {
        if let columns = ProcessInfo.processInfo.environment["COLUMNS"].flatMap({ Int($0) }), columns > 0 {
            return columns
        }
        var size = winsize()
        guard isatty(STDOUT_FILENO) == 1, ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else {
            return nil
        }
        return Int(size.ws_col)
    }

    /// Prints one line for the reader of standard output.
    package static func write(_ line: String) {
        StandardOutput.write(line)
    }

    /// Prints one line and flushes it, so that a reader of a pipe receives it at once.
    package static func writeNow(_ line: String) {
        StandardOutput.write(line)
        StandardOutput.flush()
    }

    /// Prints a table that fits the terminal.
    package static func write(_ table: Table) {
        for line in table.lines(width: width) { write(line) }
    }

    /// Prints one fact a line, with the names in a separate column.
    static func write(details: [(name: String, value: String)]) {
        let width = details.map(\.name.count).max() ?? 0
        for (name, value) in details {
            let padding = String(repeating: " ", count: width - name.count)
            write("\(name): \(padding)\(value.escapingControlCharacters)")
        }
    }

    /// Prints one JSON document.
    package static func write(_ json: JSONValue) {
        write(json.text)
    }

    /// Flushes the output. Returns false when a write failed, for example because the reader is gone.
    static func flush() -> Bool {
        StandardOutput.flush()
    }

    /// Prints a message on standard error. Its line feeds are kept. Other control characters, which may come from
    /// values in the message, are escaped.
    package static func complain(_ message: String) {
        // The output is flushed first, so that it appears before the message.
        StandardOutput.flush()
        let lines = message.split(separator: "\n", omittingEmptySubsequences: false)
        StandardErrorOutput().write(lines.map { String($0).escapingControlCharacters + "\n" }.joined())
    }
}
