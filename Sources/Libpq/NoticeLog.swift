import CLibpq
import Logging

/// Passes the server's notices to the logger, by their severity. The last FATAL one is kept, because it is the reason
/// why the connection ended.
///
/// It is used only on the connection's thread, because libpq calls it from within the calls that are made there.
final class NoticeLog {
    /// Handles a notice. Returns true if the notice must not be logged.
    typealias Hook = @Sendable (PostgresError) -> Bool

    private let logger: Logger
    private let hook: Hook?
    var lastFatal: PostgresError?

    init(logger: Logger, hook: Hook?) {
        self.logger = logger
        self.hook = hook
    }

    /// Makes libpq report here. The log must live as long as `connection`.
    func attach(to connection: OpaquePointer) {
        let context = Unmanaged.passUnretained(self).toOpaque()
        PQsetNoticeReceiver(
            connection,
            { context, result in
                guard let context, let result else { return }
                // The context is the log given below. The wire holds it, and finishes the PGconn before it is released.
                Unmanaged<NoticeLog>.fromOpaque(context).takeUnretainedValue().receive(result)
            },
            context
        )
    }

    private func receive(_ result: OpaquePointer) {
        let severity = DiagnosticField.severity.read(result) ?? "NOTICE"
        let notice = PostgresError(result: result, statement: nil)
        if notice.code == .connectionLost, notice.sqlState != nil { lastFatal = notice }

        if let hook, hook(notice) { return }
        var metadata: Logger.Metadata = ["postgres.severity": "\(severity)"]
        metadata["postgres.sqlstate"] = notice.sqlState.map { "\($0)" }
        metadata["postgres.detail"] = notice.detail.map { "\($0)" }
        metadata["postgres.hint"] = notice.hint.map { "\($0)" }
        logger.log(level: Self.level(of: severity), "\(notice.message)", metadata: metadata)
    }

    private static func level(of severity: String) -> Logger.Level {
        switch severity {
        case "DEBUG": .debug
        case "LOG", "INFO": .info
        case "NOTICE": .notice
        default: .warning
        }
    }
}
