import Foundation
import Synchronization

/// The whole terminal for a picture that is redrawn: the alternate screen, without a cursor and without echo.
/// Afterwards the terminal's earlier contents are restored.
struct Screen {
    /// How many columns and lines a terminal has.
    struct Size: Equatable {
        var width: Int
        var height: Int
    }

    /// Enters the alternate screen. Returns nil if standard output is not a terminal.
    init?() {
        guard isatty(STDOUT_FILENO) == 1 else { return nil }
        enter()
    }

    /// The current size; 80 by 24 if the terminal does not report it.
    var size: Size {
        var size = winsize()
        guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0 else {
            return Size(width: 80, height: 24)
        }
        return Size(width: Int(size.ws_col), height: Int(size.ws_row))
    }

    /// Draws a picture over the last one in a single write. Each line is cleared after its text rather than before it,
    /// so that nothing flickers.
    ///
    /// - Parameter lines: The lines, no more and no wider than fit, without control characters other than styles.
    func draw(_ lines: [String]) {
        let text = lines.map { "\($0)\u{1B}[0m\u{1B}[K" }.joined(separator: "\r\n")
        // The outer pair of sequences (synchronized update) asks terminals that support it to show only the complete
        // picture.
        Self.write("\u{1B}[?2026h\u{1B}[H\(text)\u{1B}[J\u{1B}[?2026l")
    }

    /// Enters the alternate screen, at the beginning and after a suspension by SIGTSTP.
    func enter() {
        var mode = termios()
        if isatty(STDIN_FILENO) == 1, tcgetattr(STDIN_FILENO, &mode) == 0 {
            if Self.savedMode.load(ordering: .sequentiallyConsistent) == 0 {
                // This is never freed, because the signal handler may need it at any time.
                let saved = UnsafeMutablePointer<termios>.allocate(capacity: 1)
                saved.initialize(to: mode)
                Self.savedMode.store(UInt(bitPattern: saved), ordering: .sequentiallyConsistent)
            }
            // Keys are not echoed, and are read without Return. ctrl-C and ctrl-Z still send signals.
            mode.c_lflag &= ~tcflag_t(ECHO | ICANON)
            tcsetattr(STDIN_FILENO, TCSANOW, &mode)
        }
        Self.isTaken.store(true, ordering: .sequentiallyConsistent)
        Self.write("\u{1B}[?1049h\u{1B}[?25l\u{1B}[?7l\u{1B}[2J")
    }

    /// Restores the terminal.
    func leave() {
        Self.restoreFromHandler()
    }

    /// The sequences that leave the picture: they enable wrapping, show the cursor and switch to the main screen.
    private static let restoring = StaticString("\u{1B}[0m\u{1B}[?7h\u{1B}[?25h\u{1B}[?1049l")
    private static let isTaken = Atomic(false)
    /// The address of the terminal's original settings; 0 until they are changed.
    private static let savedMode = Atomic<UInt>(0)

    /// Initialises the statics that the signal handler reads, because lazy initialisation is not safe in a signal
    /// handler.
    static func touchForHandlers() {
        _ = isTaken.load(ordering: .sequentiallyConsistent)
        _ = savedMode.load(ordering: .sequentiallyConsistent)
        _ = restoring
    }

    /// Restores the terminal by async-signal-safe calls only.
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
