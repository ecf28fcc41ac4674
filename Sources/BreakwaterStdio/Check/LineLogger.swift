import Logging

extension Logger {
    /// A logger that passes each message on as a line.
    static func lines(_ write: @escaping (String) -> Void) -> Logger {
        // The checks use one thread.
        let box = Box(write: write)
        return Logger(label: "stdio-check") { _ in Handler(box: box) }
    }

    /// It is only used on the thread that makes the logger, so nothing is shared between threads.
    private struct Box: @unchecked Sendable {
        var write: (String) -> Void
    }

    private struct Handler: LogHandler {
        var box: Box
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.trace

        func log(event: LogEvent) { box.write("\(event.message)") }

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }
    }
}
