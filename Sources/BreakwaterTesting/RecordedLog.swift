public import Logging
import Synchronization

/// The log messages of a test.
public final class RecordedLog: Sendable {
    private let entries = Mutex<[(level: Logger.Level, message: String, line: String)]>([])

    /// Makes an empty log.
    public init() {}

    /// Every message, in order.
    public var messages: [String] { entries.withLock { $0.map(\.message) } }

    /// Every message with its metadata, in order.
    public var lines: [String] { entries.withLock { $0.map(\.line) } }

    /// The messages at the level warning, in order.
    public var warnings: [String] { entries.withLock { $0.filter { $0.level == .warning }.map(\.message) } }

    /// A logger that writes to this log, at every level.
    public func logger() -> Logger { Logger(label: "test") { _ in Handler(log: self) } }

    private struct Handler: LogHandler {
        var log: RecordedLog
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.trace

        func log(event: LogEvent) {
            let metadata = self.metadata.merging(event.metadata ?? [:]) { $1 }
            let line = "\(event.message) \(metadata.map { "\($0)=\($1)" }.sorted().joined(separator: " "))"
            log.entries.withLock { $0.append((event.level, "\(event.message)", line)) }
        }

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }
    }
}
