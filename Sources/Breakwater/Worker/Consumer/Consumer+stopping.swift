extension Consumer {
    /// Handles an answered heartbeat. For the length of the lease after it was sent, no other worker may have this
    /// worker's jobs.
    mutating func heartbeat(_ answer: Beat.Output, sent: Instant, at now: Instant, _ actions: inout [Action]) {
        if !lease.isHeld {
            actions.append(.report(.leaseRegained))
            woken(kind: nil, at: now)
        }
        lease.regain(asOf: sent)
        isSoleConsumer = answer.isSoleConsumer
        held.stop(kinds: answer.stopped, isComplete: true, at: now)
        cancel(answer.cancelRequests, at: now, &actions)
        if answer.hostsSuspect { quarantine.recordWaitingSuspect(at: now) }
    }

    /// Handles the worker's deregistration: its jobs were released to other workers, so it forgets them and cancels its
    /// runs.
    mutating func deregistered(at now: Instant, _ actions: inout [Action]) {
        lease.lose()
        cancel(for: .leaseLost, at: now, &actions)
        held.forgetClaims()
        unconfirmed = []
        isolation = nil
    }

    mutating func registered(_ worker: Int64, sent: Instant) {
        self.worker = worker
        lease.regain(asOf: sent)
        wakeUps = .none
        isExhausted = false
        isWide = true
    }

    /// Starts to drain: nothing more is claimed or started, and jobs that have not started are released.
    mutating func drain(at now: Instant) {
        guard phase == .working else { return }
        phase = .draining(since: now)
        held.releaseWaiting()
    }

    /// When the worker stops; nil while it works or holds jobs.
    ///
    /// A server that does not respond may have committed a claim without answering it. Those jobs are released when the
    /// worker deregisters, or when its lease ends.
    func timeToStop(at now: Instant) -> Instant? {
        guard case .draining(let since) = phase, held.isEmpty else { return nil }
        if inFlight.isEmpty { return now }
        return inFlight.contains { $0.request.work.settle != nil } ? nil : since + Self.longestSilence
    }

    /// Handles the passing of time: cancels the runs whose deadline has passed, and all runs before the lease may have
    /// ended.
    mutating func checkTime(at now: Instant, _ actions: inout [Action]) {
        if lease.isHeld, !lease.isSure(at: now) {
            lease.lose()
            held.releaseWaiting()
            let slots = held.cancel(for: .leaseLost, at: now)
            actions.append(.cancel(slots: slots))
            actions.append(.report(.leaseInDoubt(cancelled: slots.count)))
        }
        guard let deadline = held.nextDeadline, deadline <= now else { return }
        let (due, unresponsive, lost) = held.checkDeadlines(at: now)
        if !due.isEmpty { actions.append(.cancel(slots: due)) }
        for slot in unresponsive {
            if let run = held.slots[slot] { actions.append(.report(.unresponsive(run))) }
        }
        for slot in lost {
            guard let run = held.giveUp(slot: slot) else { continue }
            let ending = FinishedRun.Ending.unresponsive(run, settings: held.kinds[run.kind].settings)
            held.finish(run.job, ending)
            actions.append(.report(.gaveUp(run)))
        }
    }

    /// Cancels runs that a user has cancelled, and releases those that have not started. The database makes the jobs
    /// dead letters when these are settled. The runs may be named repeatedly until then.
    mutating func cancel(_ runs: Set<RunKey>, at now: Instant, _ actions: inout [Action]) {
        guard !runs.isEmpty else { return }
        let slots = held.cancel(for: .requested, at: now) { runs.contains(RunKey($0.job)) }
        held.releaseWaiting(runs)
        guard !slots.isEmpty else { return }
        actions.append(.cancel(slots: slots))
        actions.append(.report(.cancelled(slots.compactMap { held.slots[$0]?.job })))
    }

    mutating func cancel(for reason: HeldJobs.CancelReason, at now: Instant, _ actions: inout [Action]) {
        let slots = held.cancel(for: reason, at: now)
        if !slots.isEmpty { actions.append(.cancel(slots: slots)) }
    }
}

extension FinishedRun.Ending {
    /// The recorded ending of a run that continued long after it was cancelled.
    static func unresponsive(_ run: HeldJobs.Running, settings: HandlerSettings) -> FinishedRun.Ending {
        guard run.cancelReason == .timeout else { return .released }
        let failure = JobFailure(
            "timeout",
            "it ran for longer than \(settings.timeout) and ignored its cancellation; it may still be running"
        )
        return FinishedRun.Ending(.failed(failure), of: run.job, duration: settings.timeout, settings: settings)
    }
}
