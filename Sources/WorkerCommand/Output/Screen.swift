import Foundation
import Synchronization

/// The whole terminal, for a picture that is drawn again and again: the alternate screen, without a cursor and without
/// echo. What was on the terminal before is there again afterwards.
struct Screen {
    /// How many columns and lines a terminal has.
    struct Size: Equatable {
        var width: Int
        var height: Int
    }

    /// Takes the terminal. Null where standard output is none.
    init?() {
        guard isatty(STDOUT_FILENO) == 1 else { return nil }
        enter()
    }

    /// The present size; 80 by 24 where the terminal does not say.
    var size: Size {
        var size = winsize()
        guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0 else {
            return Size(width: 80, height: 24)
        }
        return Size(width: Int(size.ws_col), height: Int(size.ws_row))
    }

    /// Draws a picture over the last one, in one piece. Each line is cleared behind its text, not before it, so nothing
    /// flickers.
    ///
    /// - Parameter lines: As many as fit, none wider than the screen, without control characters of their own.
    func draw(_ lines: [String]) {
        let text = lines.map { "\($0)\u{1B}[0m\u{1B}[K" }.joined(separator: "\r\n")
        // The outer pair asks terminals that know it to show the picture only once it is whole.
        Self.write("\u{1B}[?2026h\u{1B}[H\(text)\u{1B}[J\u{1B}[?2026l")
    }

    /// Takes the terminal: at the beginning, and after a suspension.
    func enter() {
        var mode = termios()
        if isatty(STDIN_FILENO) == 1, tcgetattr(STDIN_FILENO, &mode) == 0 {
            if Self.savedMode.load(ordering: .sequentiallyConsistent) == 0 {
                // For the life of the process: a signal's handler may need it at any time.
                let saved = UnsafeMutablePointer<termios>.allocate(capacity: 1)
                saved.initialize(to: mode)
                Self.savedMode.store(UInt(bitPattern: saved), ordering: .sequentiallyConsistent)
            }
            // Keys do not show, and arrive without Return; ctrl-C and ctrl-Z stay signals.
            mode.c_lflag &= ~tcflag_t(ECHO | ICANON)
            tcsetattr(STDIN_FILENO, TCSANOW, &mode)
        }
        Self.isTaken.store(true, ordering: .sequentiallyConsistent)
        Self.write("\u{1B}[?1049h\u{1B}[?25l\u{1B}[?7l\u{1B}[2J")
    }

    /// Gives the terminal back as it was.
    func leave() {
        Self.restoreFromHandler()
    }

    /// The sequences that end the picture: wrapping on, the cursor there, the first screen again.
    private static let restoring = StaticString("\u{1B}[0m\u{1B}[?7h\u{1B}[?25h\u{1B}[?1049l")
    private static let isTaken = Atomic(false)
    /// The address of the terminal's settings as they were; 0 as long as they were not changed.
    private static let savedMode = Atomic<UInt>(0)

    /// Initialises what a handler reads, which must not be the one to do it.
    static func touchForHandlers() {
        _ = isTaken.load(ordering: .sequentiallyConsistent)
        _ = savedMode.load(ordering: .sequentiallyConsistent)
        _ = restoring
    }

    /// Gives the terminal back, with nothing but what a signal's handler may do.
    static func restoreFromHandler() {
        guard isTaken.exchange(false, ordering: .sequentiallyConsistent) else { return }
        _ = Foundation.write(STDOUT_FILENO, restoring.utf8Start, restoring.utf8CodeUnitCount)
        let saved = UnsafePointer<termios>(bitPattern: savedMode.load(ordering: .sequentiallyConsistent))
        if let saved { tcsetattr(STDIN_FILENO, TCSANOW, saved) }
    }

    private static func write(_ text: String) {
        StandardOutput.flush()
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { Foundation.write(STDOUT_FILENO, $0.baseAddress, $0.count) }
            if count < 0 {
                guard errno == EINTR || errno == EAGAIN else { return }
                continue
            }
            bytes = bytes.dropFirst(count)
        }
    }
}
