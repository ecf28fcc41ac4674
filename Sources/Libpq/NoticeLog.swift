import CLibpq
import Logging

/// Where the server's notices go: to the logger, by their severity. The last FATAL one is kept, for it is the reason
/// of the connection's end.
///
/// Used on the connection's thread only: libpq calls it from within the calls made there.
final class NoticeLog {
    /// Takes a notice, and says whether that was all there is to do.
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
                // The context is the log given below, held by the wire, which finishes the PGconn before it goes.
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
