import Foundation

/// A file to which several processes append lines. Each line is one write, so that no line is incomplete when its
/// process dies.
struct Notes: Sendable {
    private let descriptor: Int32
    /// How far the clock of this process is ahead of the machine's clock. Notes have the machine's time.
    private let secondsAhead: Double

    init(path: String, secondsAhead: Double = 0) throws {
        descriptor = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw POSIXError(.init(rawValue: errno) ?? .EIO) }
        self.secondsAhead = secondsAhead
    }

    /// Writes one event, as a JSON object with the time in seconds.
    func write(_ event: String, _ fields: [String: any NoteValue]) {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        let seconds = Double(time.tv_sec) - secondsAhead + Double(time.tv_nsec) / 1e9
        let rest = fields.sorted { $0.key < $1.key }.map { ",\"\($0.key)\":\($0.value.noted)" }.joined()
        var line = "{\"t\":\(String(format: "%.6f", seconds)),\"e\":\"\(event)\"\(rest)}\n"
        line.withUTF8 { bytes in _ = Foundation.write(descriptor, bytes.baseAddress, bytes.count) }
    }
}

/// A value that a note can contain.
protocol NoteValue: Sendable {
    /// The value as JSON.
    var noted: String { get }
}

extension Int: NoteValue { var noted: String { "\(self)" } }
extension Int64: NoteValue { var noted: String { "\(self)" } }
extension String: NoteValue {
    var noted: String {
        let data = try? JSONEncoder().encode(self)
        return data.map { String(decoding: $0, as: UTF8.self) } ?? "\"\""
    }
}
