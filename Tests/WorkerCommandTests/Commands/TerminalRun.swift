import BreakwaterTesting
import Foundation
import Synchronization
import Testing

@testable import WorkerCommand

/// Runs the program on a terminal of its own, as a user would: with a size, with keys, and with ctrl-C.
final class TerminalRun: Sendable {
    private let run: WorkerBinary.Run
    /// The user's side of the terminal.
    private let master: Int32
    private let shown = Mutex<[UInt8]>([])
    private let isRead = Mutex(false)

    /// - Parameters:
    ///   - arguments: The program's arguments.
    ///   - environment: Its whole environment, except `PATH` and `TERM`.
    ///   - width: Columns of the terminal.
    ///   - height: Lines of the terminal.
    init(_ arguments: [String], environment: [String: String], width: Int = 100, height: Int = 40) throws {
        let master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
        try #require(master >= 0)
        self.master = master
        // These calls do the work of unlockpt() and ptsname(), which Foundation does not export: TIOCSPTLCK and
        // TIOCGPTN.
        var isLocked: Int32 = 0
        var number: UInt32 = 0
        try #require(ioctl(master, 0x4004_5431, &isLocked) == 0 && ioctl(master, 0x8004_5430, &number) == 0)
        let path = "/dev/pts/\(number)"
        let terminal = open(path, O_RDWR | O_NOCTTY)
        try #require(terminal >= 0)
        Self.setSize(master, width: width, height: height)
        // setsid makes this the controlling terminal, so that ctrl-C sends a signal.
        run = try WorkerBinary.Run(
            ["--ctty", "--wait", WorkerBinary.path.path()] + arguments,
            program: URL(filePath: "/usr/bin/setsid"),
            environment: environment.merging(["TERM": "xterm"]) { given, _ in given },
            terminal: terminal
        )
        close(terminal)
        // This thread reads until the terminal's other side is closed.
        Thread.detachNewThread { [self] in
            var bytes = [UInt8](repeating: 0, count: 65536)
            while true {
                let count = read(master, &bytes, bytes.count)
                guard count > 0 || (count < 0 && errno == EINTR) else { break }
                if count > 0 { shown.withLock { $0 += bytes[..<count] } }
            }
            isRead.withLock { $0 = true }
        }
    }

    /// Everything that was written to the terminal so far, with its escape sequences.
    var text: String { shown.withLock { String(decoding: $0, as: UTF8.self) } }

    /// The lines of the last complete picture, without escape sequences.
    var picture: [String] {
        let pictures = text.components(separatedBy: "\u{1B}[?2026h").dropFirst()
        let whole = pictures.last { $0.contains("\u{1B}[?2026l") } ?? ""
        let text = whole.components(separatedBy: "\u{1B}[J")[0].replacing(/\u{1B}\[[?0-9;]*[A-Za-z]/, with: "")
        // This splits by scalars, because a carriage return and a line feed form one character.
        return text.unicodeScalars.filter { $0 != "\r" }.split(separator: "\n").map {
            String(String.UnicodeScalarView($0))
        }
    }

    /// The process in the foreground.
    var process: pid_t { tcgetpgrp(master) }

    /// Types keys.
    func type(_ keys: String) {
        let bytes = Array(keys.utf8)
        _ = write(master, bytes, bytes.count)
    }

    /// Gives the terminal another size; a signal notifies the program of it.
    func resize(width: Int, height: Int) { Self.setSize(master, width: width, height: height) }

    /// Waits until the program has ended and all of its output has been read, and returns its status.
    func end() async throws -> Int32 {
        let status = try await run.end().status
        try await waitUntil("all it wrote is read") { isRead.withLock(\.self) }
        close(master)
        return status
    }

    private static func setSize(_ terminal: Int32, width: Int, height: Int) {
        var size = winsize(ws_row: UInt16(height), ws_col: UInt16(width), ws_xpixel: 0, ws_ypixel: 0)
        _ = ioctl(terminal, UInt(TIOCSWINSZ), &size)
    }
}
