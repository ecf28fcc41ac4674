package import Logging

extension Logger {
    /// Creates the logger of a command other than `run`. It writes to standard error: text on a terminal, JSON otherwise.
    ///
    /// - Parameter level: The least important messages that are written.
    package static func command(level: Logger.Level) -> Logger {
        Logger(label: "worker") { label in
            LogFormat.auto.handler(label: label, level: level, output: StandardErrorOutput())
        }
    }
}
