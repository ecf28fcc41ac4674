import Libpq

extension PostgresError {
    /// Whether the server refused the call, or the client could not send it for a reason that the server would have
    /// refused.
    var isAnswer: Bool { code == .server || code == .invalidParameter }

    /// Whether the reason for a refusal may be transient: a connection or the role of the server (classes 08 and 25), a
    /// rollback (40), resources such as a full disk (53), locks (55), an operator or a timeout (57), the system (58).
    var isTransient: Bool {
        guard let sqlState else { return false }
        return ["08", "25", "40", "53", "55", "57", "58"].contains { sqlState.hasPrefix($0) }
    }
}

extension FinishedRun.Ending {
    /// How long a job waits after its outcome could not be recorded.
    private static let wait = Duration.seconds(60)

    /// The ending that replaces an outcome which the database refuses to store.
    static func unstorable(_ error: PostgresError) -> FinishedRun.Ending {
        FinishedRun.Ending(
            outcomeClass: .failed,
            failure: JobFailure("unstorable", "its outcome cannot be stored: \(error.message)").storable,
            delay: wait
        )
    }

    /// The last resort when not even a failure can be stored is to snooze the job. The failure that is the job's last
    /// attempt may be refused too.
    static let snoozedEnding = FinishedRun.Ending(outcomeClass: .snoozed, delay: wait)
}
