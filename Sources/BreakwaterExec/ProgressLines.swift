import Breakwater
import BreakwaterProcess
import Logging

/// Reads the lines of JSON in which a program reports its progress.
///
/// A program may write as much as it likes. Only the end of what was read at once is looked at, because the latest
/// values count.
struct ProgressLines {
    /// The longest line: a checkpoint of the greatest size, with a fraction and a note.
    private static let longestLine = RunReports.longestCheckpoint + 8192
    /// How many of the lines without a checkpoint that were read at once are looked at.
    private static let mostLines = 256

    private let reports: RunReports
    private let logger: Logger
    private var line: [UInt8] = []
    private var isLineTooLong = false
    private var hasWarned = false

    init(_ reports: RunReports, logger: Logger) {
        self.reports = reports
        self.logger = logger
    }

    /// Takes what was read at once.
    mutating func append(_ bytes: [UInt8]) {
        let parts = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        keep(parts[0])
        guard parts.count > 1 else { return }
        let lines: [ArraySlice<UInt8>] = endLine() + parts[1..<(parts.count - 1)]
        keep(parts[parts.count - 1])
        read(lines)
    }

    /// Takes the last line, which has no line feed.
    mutating func finish() { read(endLine()) }

    /// Ends the line that was kept, and returns it unless it is too long.
    private mutating func endLine() -> [ArraySlice<UInt8>] {
        defer {
            line = []
            isLineTooLong = false
        }
        guard !isLineTooLong else {
            warn("a line of its progress is longer than \(Self.longestLine) bytes")
            return []
        }
        return [line[...]]
    }

    private mutating func keep(_ part: ArraySlice<UInt8>) {
        guard !isLineTooLong, line.count + part.count <= Self.longestLine else {
            isLineTooLong = true
            line = []
            return
        }
        line += part
    }

    private mutating func read(_ lines: [ArraySlice<UInt8>]) {
        let lastCheckpoint = lines.lastIndex { $0.mayHaveCheckpoint }
        for (place, line) in lines.enumerated() where place == lastCheckpoint || place >= lines.count - Self.mostLines {
            // An earlier checkpoint in these lines is not the latest.
            line.withUnsafeBytes { read($0, isLatestCheckpoint: place == lastCheckpoint) }
        }
    }

    private mutating func read(_ line: UnsafeRawBufferPointer, isLatestCheckpoint: Bool) {
        var (fraction, note, checkpoint): (Range<Int>?, Range<Int>?, Range<Int>?)
        var scanner = MessageScanner(line)
        let isObject = scanner.members { name, value in
            if line.isWord("fraction", name) {
                fraction = value
            } else if line.isWord("note", name) {
                note = value
            } else if line.isWord("checkpoint", name) {
                checkpoint = value
            }
        }
        guard isObject else {
            if !line.isEmpty { warn("a line of its progress is not a JSON object") }
            return
        }
        let part = fraction.flatMap { line.number($0) }
        let text = note.flatMap { line.text($0) }
        if fraction.map({ part == nil && !line.isNull($0) }) ?? false { warn("a \"fraction\" of its is not a number") }
        if note.map({ text == nil && !line.isNull($0) }) ?? false { warn("a \"note\" of its is not a text") }
        if part != nil || text != nil { reports.progress(fraction: part, note: text) }
        guard let checkpoint, isLatestCheckpoint else { return }
        do {
            try reports.checkpoint(String(decoding: line[checkpoint], as: UTF8.self))
        } catch {
            warn(error.message)
        }
    }

    /// Logs the first fault of a run. The line at fault is ignored.
    private mutating func warn(_ fault: String) {
        guard !hasWarned else { return }
        hasWarned = true
        logger.warning("What the program reported is ignored: \(fault)")
    }
}

extension ArraySlice<UInt8> {
    /// Whether the text `"checkpoint"` is in the line.
    fileprivate var mayHaveCheckpoint: Bool {
        let word: StaticString = "\"checkpoint\""
        let length = word.utf8CodeUnitCount
        return withUnsafeBytes { bytes in
            guard bytes.count >= length else { return false }
            return (0...(bytes.count - length)).contains { bytes.isWord(word, $0..<($0 + length)) }
        }
    }
}
