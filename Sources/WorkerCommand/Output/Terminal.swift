import Foundation

/// What this process prints to.
enum Terminal {
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
    static func write(_ line: String) {
        print(line)
    }

    /// Prints a table that fits the terminal.
    static func write(_ table: Table) {
        for line in table.lines(width: width) { print(line) }
    }

    /// Prints one JSON document.
    static func write(_ json: JSONValue) {
        print(json.text)
    }

    /// Prints a message beside the data, on standard error.
    static func complain(_ message: String) {
        StandardErrorOutput().write(message + "\n")
    }
}
