import Libpq

extension Consumer {
    /// Sends the requests that are possible now: at most one at a time, or two in a backlog.
    mutating func sendRequests(at now: Instant, _ actions: inout [Action]) {
        guard isConnected, phase != .stopped else { return }
        if inFlight.isEmpty {
            if let request = exclusiveRequest(at: now) {
                actions.append(nextRequest(request, at: now))
            } else if !isGathering(at: now), let request = exchange(at: now) ?? idleRequest(at: now) {
                if case .exchange(_, let settle) = request { lastExchange = (now, settle?.runs.count ?? 0) }
                actions.append(nextRequest(request, at: now))
                // Runs of a kind that rules hold back are settled first, because they make room for the claim.
                if case .exchange(nil, _?) = request, !heldBack.isEmpty,
                    let claim = planClaim(at: now, isOverlapping: false)
                {
                    actions.append(nextRequest(.exchange(claim, nil), at: now))
                }
            }
        } else if mayOverlap(at: now), let request = exchange(at: now, isOverlapping: true) {
            actions.append(nextRequest(request, at: now))
        }
    }

    /// Whether ended runs are collected for a while before the next exchange, although no request is in flight.
    ///
    /// An exchange costs the server as much as a hundred of its runs. So a later and larger exchange is cheaper. Nobody
    /// waits for it while there are jobs for the slots of the runs that end.
    func isGathering(at now: Instant) -> Bool {
        guard lastExchange.runs >= Self.gatheringRuns, now < lastExchange.sent + Self.gatheringTime,
            phase == .working, !isExhausted, held.waitingCount > 0, held.finishedCount < Self.manyJobs
        else { return false }
        // A failure, or a run of a kind that rules hold back, may decide what starts next.
        return heldBack.isEmpty && !held.hasFailures && isolation == nil && unconfirmed.isEmpty
    }

    /// The request that must be sent alone and before all others, if there is one.
    private mutating func exclusiveRequest(at now: Instant) -> Request.Work? {
        if now >= nextReconciliation {
            nextReconciliation = now + settings.lease
            // No claim is in flight meanwhile, so the worker knows every claim that was answered.
            return .reconcile(Reconcile(worker: worker, known: held.knownClaims))
        }
        if let examination, phase == .working {
            self.examination = nil
            return .examine(examination)
        }
        if mustCancelNotifications {
            mustCancelNotifications = false
            return .sleep(Sleep(worker: worker, kinds: []))
        }
        if let run = isolation?.nextRun() {
            return .settleAlone(Settle(worker: worker, runs: [run], claims: []))
        }
        return nil
    }

    /// Whether a second request may be sent while the first is in flight: the first has claimed a large batch, and more
    /// jobs are waiting.
    private func mayOverlap(at now: Instant) -> Bool {
        guard inFlight.count == 1, let claimed = inFlight[0].claimed, claimed >= Self.manyJobs, !isExhausted,
            case .exchange = inFlight[0].request.work
        else { return false }
        return wakeUps != .asleep && isolation == nil && now < nextReconciliation
    }

    /// Claims jobs for the free slots, and settles the runs that have ended.
    ///
    /// While a request is in flight, ended runs are collected for the next one. So batches grow with the load, and a
    /// single job is settled at once.
    private mutating func exchange(at now: Instant, isOverlapping: Bool = false) -> Request.Work? {
        if now >= nextPoll {
            nextPoll = now + settings.pollInterval
            isExhausted = false
            isWide = true
        }
        if case .polling(_, _, let nextLook) = wakeUps, now >= nextLook { isExhausted = false }
        if owesLateSearch, now >= nextLateSearch { isExhausted = false }
        if let due = heldBack.values.min(), due <= now {
            isExhausted = false
            // The answer says when to claim them again. If the claim does not include one, it is asked for later.
            for (kind, due) in heldBack where due <= now { heldBack[kind] = now + Self.heldBackPause }
        }
        // No insert notifies this worker although it is idle, so it claims again.
        if settings.listens, wakeUps == .none, now >= nextWideClaim { isExhausted = false }
        if !isOverlapping, now >= nextWideClaim, !isExhausted, wakeUps != .asleep { isWide = true }

        if !isOverlapping, !heldBack.isEmpty, held.hasFinished(ofAnyOf: heldBack) {
            isExhausted = false
            let (runs, closed) = held.drainFinished()
            return .exchange(nil, settle(runs, closed))
        }
        let claim = planClaim(at: now, isOverlapping: isOverlapping)
        if isOverlapping, claim == nil || claim.map({ $0.total < Self.manyJobs }) == true { return nil }
        let (runs, closed) = held.drainFinished()
        let settle = runs.isEmpty && closed.isEmpty ? nil : settle(runs, closed)
        guard claim != nil || settle != nil || !unconfirmed.isEmpty else { return nil }
        return .exchange(claim, settle)
    }

    private func settle(_ runs: [FinishedRun], _ closed: [Int64]) -> Settle {
        Settle(worker: worker, runs: runs, claims: closed, measured: held.measure(runs))
    }

    private mutating func planClaim(at now: Instant, isOverlapping: Bool) -> Claim? {
        guard mayStart(at: now), quarantine.acceptsJobs, !isExhausted || held.hasFinished else { return nil }
        let plan = held.planClaim(batches: isOverlapping ? 3 : 2)
        guard plan.total > 0, !plan.kinds.isEmpty else { return nil }
        let asked = lanes.asked(
            kinds: Set(plan.kinds.map(\.kind)),
            rotation: plan.rotation,
            all: isWide,
            whole: Set(heldBack.keys),
            at: now
        )
        guard !asked.isEmpty else {
            isExhausted = true
            return nil
        }
        let isLate = now >= nextLateSearch && (!isBacklog || now >= nextWideClaim)
        return Claim(
            worker: worker,
            lanes: asked,
            room: plan.kinds,
            total: min(plan.total, claimLimit.most ?? .max),
            isLate: isLate,
            isBacklog: isBacklog,
            isWide: isWide,
            bytes: min(HeldJobs.mostBytesAClaim, HeldJobs.mostBytes - held.payloadBytes)
        )
    }

    /// The request to send while there is nothing to claim or settle.
    private mutating func idleRequest(at now: Instant) -> Request.Work? {
        guard phase == .working else { return nil }
        let isFree = held.isEmpty && lease.isHeld
        if quarantine.wantsSuspect(holdsNothing: isFree, at: now) {
            return .claimSuspects(ClaimSuspects(worker: worker))
        }
        guard settings.listens else { return nil }
        hotKinds.review(at: now)
        let isFull = !quarantine.acceptsJobs || held.isFull(forAnyOf: hotKinds.kinds)
        let polled = isFull ? [] : hotKinds.kinds
        switch wakeUps {
        case .polling(let kinds, let renewAt, _) where !polled.isEmpty:
            return kinds != polled || now >= renewAt ? poll(polled) : nil
        case .polling:
            // While it polled, inserts notified no worker. The answer to this request triggers one more claim to find
            // their jobs.
            return .sleep(Sleep(worker: worker, kinds: isFull ? [] : settings.kinds))
        case .none, .asleep:
            if !polled.isEmpty { return poll(polled) }
            guard wakeUps == .none, isExhausted, claimsWithJobs == 0 else { return nil }
            return .sleep(Sleep(worker: worker, kinds: settings.kinds))
        }
    }

    private func poll(_ kinds: Set<String>) -> Request.Work {
        .poll(
            PollHotKinds(
                worker: worker,
                queues: settings.queues,
                polled: kinds.sorted(),
                kinds: settings.kinds.filter { !kinds.contains($0) },
                term: HotKinds.term
            )
        )
    }
}
