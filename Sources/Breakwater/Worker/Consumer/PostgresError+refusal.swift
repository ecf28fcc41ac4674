import Libpq

extension PostgresError {
    /// Whether the server refused the call, or would have refused it if the client had been able to send it.
    var isAnswer: Bool { code == .server || code == .invalidParameter }

    /// Whether the reason for a refusal may pass by itself: a connection or a role of the server (classes 08 and 25), a
    /// rollback (40), resources such as a full disk (53), locks (55), an operator or a timeout (57), the system (58).
    var mayPass: Bool {
        guard let sqlState else { return false }
        return ["08", "25", "40", "53", "55", "57", "58"].contains { sqlState.hasPrefix($0) }
    }
}

extension FinishedRun.Ending {
    /// How long a job waits if its outcome could not be recorded.
    private static let wait = Duration.seconds(60)

    /// Stands for an outcome that the database refuses to store.
    static func unstorable(_ error: PostgresError) -> FinishedRun.Ending {
        FinishedRun.Ending(
            className: "failed",
            failure: JobFailure("unstorable", "its outcome cannot be stored: \(error.message)").storable,
            delay: wait
        )
    }

    /// Last resort: snooze, because even a failure cannot be stored. A failure that is the job's last may be refused.
    static let putOff = FinishedRun.Ending(className: "snoozed", delay: wait)
}
