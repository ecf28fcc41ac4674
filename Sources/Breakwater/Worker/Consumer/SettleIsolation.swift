import Libpq

/// Finds the runs at fault after the server refused to settle a batch: each is settled by itself.
///
/// A run at fault is settled as a failure that says why; if not even that can be stored, it is snoozed; and if that is
/// refused too, it is left to the database, which gives the job back after a while.
struct SettleIsolation {
    /// Retries of a transiently refused settle before the bad run is isolated, and of a run by itself before it counts
    /// as the one at fault.
    static let patience = 4

    private enum Stage {
        /// As its handler ended it. Goes to `unstorable`.
        case asItIs
        /// As a failure that says that its outcome cannot be stored. Goes to `snoozed`.
        case unstorable
        /// Last resort, because even a failure cannot be stored.
        case snoozed
    }

    /// What became of a run that was settled by itself.
    enum Verdict {
        /// On to the next one.
        case next
        /// It cannot be settled in any way.
        case abandon(FinishedRun)
    }

    private var queue: [FinishedRun]
    private var stage = Stage.asItIs
    let claims: [Int64]
    /// Refused for reasons that may pass, to be tried again later.
    private(set) var left: [FinishedRun] = []
    /// The reason of the last of those.
    private(set) var lastError: PostgresError?
    private var current: FinishedRun?

    init(runs: [FinishedRun], claims: [Int64]) {
        queue = runs.reversed()
        self.claims = claims
    }

    /// The run to settle by itself now; nil when all have been.
    mutating func nextRun() -> FinishedRun? {
        if current == nil {
            current = queue.popLast()
            stage = .asItIs
        }
        return current
    }

    /// What has not been settled.
    var unsettled: [FinishedRun] { left + [current].compactMap(\.self) + queue.reversed() }

    mutating func settled() { current = nil }

    /// The run by itself was refused.
    ///
    /// - Parameters:
    ///   - error: Why.
    ///   - refusals: How often this run was refused before for reasons that may pass.
    mutating func refused(_ error: PostgresError, refusals: Int) -> Verdict {
        guard var run = current else { return .next }
        if error.mayPass, refusals + 1 < Self.patience {
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
            run.ending = .putOff
        case .snoozed:
            current = nil
            return .abandon(run)
        }
        current = run
        return .next
    }
}
