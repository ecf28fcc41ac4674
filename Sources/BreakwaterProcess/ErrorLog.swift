import Breakwater
package import Logging

/// Logs a program's standard error line by line, within limits, and keeps its end for the message of a failure.
package struct ErrorLog {
    /// The most bytes of a line that are logged.
    package static let maximumLineBytes = 2048
    /// The most lines that are logged, of one job or in one period. Further lines are only counted.
    package static let maximumLines = 1000
    /// How many bytes of the end are kept.
    package static let maximumTailBytes = 2048

    /// Logs the lines.
    package var logger: Logger
    private var line = BoundedOutput(limit: Self.maximumLineBytes)
    private var lines = 0
    private var tail: [UInt8] = []
    private var isTailCut = false

    package init(logger: Logger) {
        self.logger = logger
    }

    package mutating func append(_ bytes: [UInt8]) {
        tail += bytes.suffix(Self.maximumTailBytes)
        if tail.count > Self.maximumTailBytes || bytes.count > Self.maximumTailBytes {
            tail.removeFirst(max(0, tail.count - Self.maximumTailBytes))
            isTailCut = true
        }
        if lines > Self.maximumLines {
            lines += bytes.count { $0 == UInt8(ascii: "\n") }
            return
        }
        var rest = bytes[...]
        while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
            line.append(Array(rest[..<end]))
            endLine()
            rest = rest[(end + 1)...]
        }
        line.append(Array(rest))
    }

    /// Logs the last, incomplete line.
    ///
    /// - Returns: The end of the output, which begins at the start of a line if possible.
    package mutating func finish() -> String {
        if line.written > 0 { endLine() }
        logDropped()
        return end
    }

    /// Starts a new period, in which as many lines are logged again. For programs that run for longer than one job.
    package mutating func startPeriod() {
        logDropped()
        lines = 0
    }

    private func logDropped() {
        guard lines > Self.maximumLines else { return }
        logger.info(
            "The program wrote more to standard error than is logged",
            metadata: ["dropped_lines": .stringConvertible(lines - Self.maximumLines)]
        )
    }

    /// The end of the output so far, which begins at the start of a line if possible.
    private var end: String {
        var kept = tail[...]
        if isTailCut, let lineEnd = kept.dropLast().firstIndex(of: UInt8(ascii: "\n")) {
            kept = kept[(lineEnd + 1)...]
        } else if isTailCut {
            // The cut may have split a UTF-8 character, whose remaining bytes are dropped.
            kept = kept.drop { (0x80..<0xC0).contains($0) }
        }
        while let last = kept.last, last == UInt8(ascii: "\n") || last == UInt8(ascii: "\r") { kept.removeLast() }
        return JobResult.text(from: kept)
    }

    private mutating func endLine() {
        lines += 1
        if lines <= Self.maximumLines {
            let text = JobResult.text(from: line.kept, isCut: line.isCut) + (line.isCut ? "…" : "")
            logger.info("\(text)", metadata: ["stream": "stderr"])
        }
        line = BoundedOutput(limit: Self.maximumLineBytes)
    }
}
