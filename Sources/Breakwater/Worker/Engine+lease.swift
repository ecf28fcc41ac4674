import Logging

extension Engine {
    /// A beat was answered: until the lease has passed since it was sent, nobody else may have this worker's jobs.
    ///
    /// - Parameters:
    ///   - sent: When the beat was sent, which is earlier than when the database saw it.
    ///   - answer: What the database said.
    func beatAnswered(sentAt sent: Moment, _ answer: Beat.Output) {
        let isBack = withState { state in
            let isBack = !state.dispatcher.holdsLease
            state.dispatcher.regainLease(asOf: sent)
            state.dispatcher.stop(kinds: answer.stopped, at: .now)
            state.isAlone = answer.isAlone
            if answer.hostsSuspect { state.solitude.suspectWaits(at: .now) }
            return isBack
        }
        health.note(holdsLease: true)
        if isBack {
            logger.notice("beats again, and still has its jobs")
            woken(kind: nil)
        }
        work.raise()
    }

    /// Stops what runs and releases what waits, because the lease has ended or may end before the next beat.
    ///
    /// - Returns: How many runs were cancelled.
    @discardableResult
    func forgetLease() -> Int {
        let cancelled = cancelRuns(for: .leaseLost)
        let isNews = withState { state in
            defer {
                state.dispatcher.loseLease()
                state.dispatcher.forgetClaims()
            }
            return state.dispatcher.holdsLease
        }
        if isNews { metrics.leaseLost() }
        return cancelled
    }

    /// Cancels all runs once three quarters of the lease have passed without an answered beat: before anyone else may
    /// have their jobs.
    func checkLease(at now: Moment) {
        let isLate = withState { state in
            guard state.dispatcher.holdsLease, !state.dispatcher.isSure(at: now) else { return false }
            state.dispatcher.loseLease()
            return true
        }
        guard isLate else { return }
        metrics.leaseLost()
        health.note(holdsLease: false)
        let cancelled = cancelRuns(for: .leaseLost)
        logger.error(
            "no beat was answered for three quarters of the lease; cancelling what runs",
            metadata: ["cancelled": .stringConvertible(cancelled)]
        )
    }

    /// Cancels the runs whose time is up.
    func checkDeadlines(at now: Moment) {
        cancelRuns(for: .timeout) { $0.deadline <= now }
    }
}
