import Libpq

/// Finds the runs at fault after the server refused to settle a batch, by settling each run by itself.
///
/// A run at fault is settled as a failure with the error. If that cannot be stored either, the job is snoozed. If that
/// is refused too, the run is abandoned, and the database releases the job after a while.
struct SettleIsolation {
    /// Retries of a transiently refused settle before the bad run is isolated, and of a run by itself before it counts
    /// as the one at fault.
    static let mostRefusals = 4

    private enum Stage {
        /// The run is settled as its handler ended it. Goes to `unstorable`.
        case asItIs
        /// The run is settled as a failure, which says that the outcome cannot be stored. Goes to `snoozed`.
        case unstorable
        /// The job is snoozed, because not even a failure can be stored.
        case snoozed
    }

    /// What to do after a run was settled by itself.
    enum Verdict {
        /// Continue with the next run.
        case next
        /// Abandon the run, because it cannot be settled in any way.
        case abandon(FinishedRun)
    }

    private var queue: [FinishedRun]
    private var stage = Stage.asItIs
    let claims: [Int64]
    /// Runs that were refused for transient reasons, to be tried again later.
    private(set) var left: [FinishedRun] = []
    /// The last transient error.
    private(set) var lastError: PostgresError?
    private var current: FinishedRun?

    init(runs: [FinishedRun], claims: [Int64]) {
        queue = runs.reversed()
        self.claims = claims
    }

    /// The run to settle by itself now; nil when there are no more.
    mutating func nextRun() -> FinishedRun? {
        if current == nil {
            current = queue.popLast()
            stage = .asItIs
        }
        return current
    }

    /// The runs that have not been settled.
    var unsettled: [FinishedRun] { left + [current].compactMap(\.self) + queue.reversed() }

    mutating func settled() { current = nil }

    /// Records that the current run was refused.
    ///
    /// - Parameters:
    ///   - error: The server's error.
    ///   - refusals: How often this run was refused before for transient reasons.
    mutating func refused(_ error: PostgresError, refusals: Int) -> Verdict {
        guard var run = current else { return .next }
        if error.isTransient, refusals + 1 < Self.mostRefusals {
            lastError = error
            left.append(run)
            current = nil
            return .next
        }
        switch stage {
        case .asItIs:
            stage = .unstorable
            run.ending = .unstorable(error)
        case .unstorable:
            stage = .snoozed
            run.ending = .snoozedEnding
        case .snoozed:
            current = nil
            return .abandon(run)
        }
        current = run
        return .next
    }
}
