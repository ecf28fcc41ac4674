import Foundation

/// What this process prints to.
package enum Terminal {
    /// How many columns a line of standard output has; nil when it is not a terminal, and lines may be of any length.
    ///
    /// `COLUMNS` decides where it is set, also for what is not a terminal.
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

    /// Prints one line that the reader gets at once, also through a pipe.
    package static func writeNow(_ line: String) {
        StandardOutput.write(line)
        StandardOutput.flush()
    }

    /// Prints a table that fits the terminal.
    package static func write(_ table: Table) {
        for line in table.lines(width: width) { write(line) }
    }

    /// Prints one fact a line, the names in a column of their own.
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

    /// Sends on what was printed. False when nobody reads it any more.
    static func flush() -> Bool {
        StandardOutput.flush()
    }

    /// Prints a message beside the data, on standard error. Its lines stay lines; other control characters, which
    /// the values that it names may hold, are escaped.
    package static func complain(_ message: String) {
        // In the order in which they were said.
        StandardOutput.flush()
        let lines = message.split(separator: "\n", omittingEmptySubsequences: false)
        StandardErrorOutput().write(lines.map { String($0).escapingControlCharacters + "\n" }.joined())
    }
}
