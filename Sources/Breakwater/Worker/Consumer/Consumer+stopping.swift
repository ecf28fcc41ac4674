extension Consumer {
    /// A heartbeat was answered: until the lease has passed since it was sent, nobody else may have this worker's jobs.
    mutating func heartbeat(_ answer: Beat.Output, sent: Instant, at now: Instant, _ actions: inout [Action]) {
        if !lease.isHeld {
            actions.append(.report(.leaseRegained))
            woken(kind: nil, at: now)
        }
        lease.regain(asOf: sent)
        isSoleConsumer = answer.isSoleConsumer
        held.stop(kinds: answer.stopped, isComplete: true, at: now)
        if answer.hostsSuspect { quarantine.suspectWaits(at: now) }
    }

    /// Others have this worker's jobs: it forgets them, and cancels what runs.
    mutating func struckOff(at now: Instant, _ actions: inout [Action]) {
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

    /// Nothing new is claimed or started; what has not started is released.
    mutating func drain(at now: Instant) {
        guard phase == .working else { return }
        phase = .draining(since: now)
        held.releaseWaiting()
    }

    /// When the worker stops; nil while it works or holds something.
    ///
    /// A silent server may have given it jobs in a claim that is not answered. Those jobs come back when the worker
    /// leaves, or when its lease ends.
    func timeToStop(at now: Instant) -> Instant? {
        guard case .draining(let since) = phase, held.isEmpty else { return nil }
        if inFlight.isEmpty { return now }
        return inFlight.contains { $0.request.work.settle != nil } ? nil : since + Self.longestSilence
    }

    /// What time alone does: runs whose time is up are cancelled, and all of them before the lease may have ended.
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

    mutating func cancel(for reason: HeldJobs.CancelReason, at now: Instant, _ actions: inout [Action]) {
        let slots = held.cancel(for: reason, at: now)
        if !slots.isEmpty { actions.append(.cancel(slots: slots)) }
    }
}

extension FinishedRun.Ending {
    /// Stands for the outcome of a run that went on long after it was cancelled.
    static func unresponsive(_ run: HeldJobs.Running, settings: HandlerSettings) -> FinishedRun.Ending {
        guard run.cancelReason == .timeout else { return .released }
        let failure = JobFailure(
            "timeout",
            "it ran for longer than \(settings.timeout) and ignored its cancellation; it may still be running"
        )
        return FinishedRun.Ending(.failed(failure), of: run.job, duration: settings.timeout, settings: settings)
    }
}
