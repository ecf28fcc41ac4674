import Logging

extension Logger {
    /// A logger that passes each message on as a line.
    static func lines(_ write: @escaping @Sendable (String) -> Void) -> Logger {
        Logger(label: "stdio-check") { _ in LineHandler(write: write) }
    }
}

private struct LineHandler: LogHandler {
    var write: @Sendable (String) -> Void
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.trace

    func log(event: LogEvent) { write("\(event.message)") }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }
}
