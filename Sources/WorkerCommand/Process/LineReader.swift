import CDispatch
import Foundation

/// Reads a file or standard input line by line, with a timeout for each line.
struct LineReader {
    /// The result of reading.
    enum Next: Equatable {
        /// A line without its line feed.
        case line(String)
        /// No line arrived in time.
        case nothing
        /// The input has ended.
        case end
    }

    /// Where the lines come from, for messages.
    let name: String
    /// The number of the last line that was read, from 1.
    private(set) var number = 0
    /// The size in bytes; nil if the input has no known size.
    let size: Int?
    /// How many bytes the lines returned so far took.
    private(set) var consumed = 0

    private let descriptor: Int32
    private var buffer: [UInt8] = []
    /// The start of the next line in the buffer, and the end of the part that was searched for a line feed.
    private var start = 0
    private var searched = 0
    private var isAtEnd = false

    /// The longest line in bytes. It is longer than any payload that Postgres can store.
    static let longestLine = 256 * 1024 * 1024

    /// - Parameter path: The file, or `-` for standard input.
    /// - Throws: ``CommandFailure`` when it cannot be read.
    init(path: String) throws {
        name = path == "-" ? "standard input" : path
        descriptor = path == "-" ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw CommandFailure(.usage, "cannot read \(path): \(String(cString: strerror(errno)))")
        }
        var byte: UInt8 = 0
        if pread(descriptor, &byte, 1, 0) < 0, errno == EISDIR {
            throw CommandFailure(.usage, "\(path) is a directory")
        }
        // A pipe or a terminal has no size.
        let here = lseek(descriptor, 0, SEEK_CUR)
        let end = here < 0 ? -1 : lseek(descriptor, 0, SEEK_END)
        if here >= 0 { lseek(descriptor, here, SEEK_SET) }
        size = end > 0 ? Int(end) : nil
    }

    /// Closes the file.
    func close() {
        if descriptor != STDIN_FILENO { _ = Foundation.close(descriptor) }
    }

    /// The next line.
    ///
    /// - Parameter timeout: How long to wait for the line.
    /// - Throws: ``CommandFailure`` for a line that is not UTF-8, or too long; or when reading fails.
    mutating func next(within timeout: Duration) async throws -> Next {
        while true {
            if let end = buffer[searched...].firstIndex(of: 0x0A) {
                return .line(try extractLine(to: end, skipping: 1))
            }
            searched = buffer.count
            if isAtEnd { return start < buffer.count ? .line(try extractLine(to: buffer.count, skipping: 0)) : .end }
            guard buffer.count - start <= Self.longestLine else {
                throw CommandFailure(.usage, "\(name):\(number + 1): the line is longer than 256 MiB")
            }
            guard await Foreground.wait(timeout, input: descriptor) == .input else { return .nothing }
            try readMore()
        }
    }

    private mutating func extractLine(to end: Int, skipping: Int) throws -> String {
        number += 1
        let bytes = buffer[start..<end]
        consumed += bytes.count + skipping
        start = end + skipping
        searched = start
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw CommandFailure(.usage, "\(name):\(number): the line is not UTF-8")
        }
        // A byte order mark and a carriage return at the end of the line are removed.
        let line = number == 1 && text.hasPrefix("\u{FEFF}") ? String(text.dropFirst()) : text
        return line.hasSuffix("\r") ? String(line.dropLast()) : line
    }

    private mutating func readMore() throws {
        if start > 0 {
            buffer.removeSubrange(..<start)
            searched -= start
            start = 0
        }
        let chunk = try [UInt8](unsafeUninitializedCapacity: 256 * 1024) { bytes, count in
            var result = read(descriptor, bytes.baseAddress, bytes.count)
            while result < 0, errno == EINTR { result = read(descriptor, bytes.baseAddress, bytes.count) }
            guard result >= 0 else {
                throw CommandFailure(.usage, "cannot read \(name): \(String(cString: strerror(errno)))")
            }
            count = result
        }
        isAtEnd = chunk.isEmpty
        buffer += chunk
    }
}
