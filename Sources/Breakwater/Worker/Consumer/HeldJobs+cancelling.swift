/// Cancelling runs, and watching whether they end.
extension HeldJobs {
    /// A cancelled run that has not ended after this long is reported.
    static let cancelledReportDelay = Duration.seconds(10)
    /// A cancelled run that has not ended after this long loses its slot to other jobs.
    static let longestCancelled = Duration.seconds(60)

    /// Marks runs as cancelled for a reason, and returns their slots. An earlier reason is kept.
    mutating func cancel(
        for reason: CancelReason,
        at now: Instant,
        where isChosen: (Running) -> Bool = { _ in true }
    ) -> [Int] {
        let cancelled = slots.indices.filter { slot in
            guard let run = slots[slot], run.cancelReason == nil, isChosen(run) else { return false }
            slots[slot]?.cancelReason = reason
            slots[slot]?.cancelledAt = now
            return true
        }
        // Whether these runs go on is checked before their deadlines.
        if !cancelled.isEmpty, let next = nextDeadline { nextDeadline = min(next, now + Self.cancelledReportDelay) }
        return cancelled
    }

    /// Checks the deadlines of all runs.
    ///
    /// - Returns: The slots of three groups of runs. `due`: the deadline has passed, and the run is now marked as
    ///   cancelled. `unresponsive`: the run was cancelled a while ago and still continues, which is reported once.
    ///   `lost`: the run has continued for too long.
    mutating func checkDeadlines(at now: Instant) -> (due: [Int], unresponsive: [Int], lost: [Int]) {
        let due = cancel(for: .timeout, at: now) { $0.deadline <= now }
        var (unresponsive, lost): ([Int], [Int]) = ([], [])
        nextDeadline = nil
        for slot in slots.indices {
            guard let run = slots[slot] else { continue }
            var next = run.deadline
            if let cancelledAt = run.cancelledAt {
                let age = now - cancelledAt
                if age >= Self.longestCancelled {
                    lost.append(slot)
                    continue
                }
                if age >= Self.cancelledReportDelay, !run.isReported {
                    slots[slot]?.isReported = true
                    unresponsive.append(slot)
                }
                let delay = age < Self.cancelledReportDelay ? Self.cancelledReportDelay : Self.longestCancelled
                next = cancelledAt + delay
            }
            nextDeadline = min(nextDeadline ?? next, next)
        }
        return (due, unresponsive, lost)
    }

    /// How many runs were cancelled a while ago and still continue.
    var unresponsiveCount: Int { lostRuns.count + slots.count { $0?.isReported == true } }
}
