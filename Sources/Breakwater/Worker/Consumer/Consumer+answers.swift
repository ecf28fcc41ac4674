import Libpq

extension Consumer {
    mutating func connected(at now: Instant) {
        isConnected = true
        wakeUps = .none
        isExhausted = false
        isWide = true
        // The server may still be working on a lost connection's requests, so this is repeated once per lease.
        nextReconciliation = now
    }

    mutating func disconnected(at now: Instant) {
        isConnected = false
        for lost in inFlight {
            switch lost.request.work {
            // The settle may have been committed with only its answer lost. Settling again is harmless.
            case .exchange(_, let settle?) where settle.worker == worker:
                held.putBack(settle.runs, claims: settle.claims)
            case .examine(let lostExamination):
                examination = lostExamination
            default:
                break
            }
            if lost.claimed == nil, now - lost.sent >= Self.suspiciousSilence { examine(after: lost.request.work) }
        }
        inFlight = []
        if let isolation { held.putBack(isolation.unsettled, claims: isolation.claims) }
        isolation = nil
        unconfirmed = []
        held.forgetUnconfirmed()
    }

    mutating func answered(_ id: Request.ID, _ answer: Answer, at now: Instant, _ actions: inout [Action]) {
        guard let place = inFlight.firstIndex(where: { $0.request.id == id }) else { return }
        let asked = inFlight[place]
        switch answer {
        case .claimed(let jobs, let heldBack):
            claimed(jobs, of: asked, at: now, &actions)
            if case .exchange(let claim?, _) = asked.request.work {
                for kind in claim.room { self.heldBack[kind.kind] = heldBack[kind.kind].map { now + $0 } }
            }
            // A claim of suspects is durable by itself, and no other answer follows.
            if case .claimSuspects = asked.request.work {
                inFlight.remove(at: place)
            } else {
                inFlight[place].claimed = jobs.count
            }
            return
        case .settled(let stopped):
            inFlight.remove(at: place)
            settled(asked, stopped: stopped, at: now)
        case .settleRefused(let error):
            inFlight.remove(at: place)
            refused(asked, error, &actions)
        case .claimRefused(let error):
            claimRefused(asked.request.work, error)
            reconnect(error, &actions)
        case .reconciled(let jobs):
            inFlight.remove(at: place)
            if jobs > 0 {
                isExhausted = false
                actions.append(.report(.reconciled(jobs: jobs)))
            }
        case .examined(let unreadable):
            inFlight.remove(at: place)
            isExhausted = false
            if !unreadable.isEmpty { actions.append(.report(.unreadable(unreadable))) }
        case .done:
            inFlight.remove(at: place)
            recordWakeUps(asked, at: now)
        }
    }

    // MARK: Claims

    private mutating func claimed(_ jobs: [ClaimedJob], of asked: InFlight, at now: Instant, _ actions: inout [Action])
    {
        switch asked.request.work {
        case .exchange(let claim?, _):
            hotKinds.arrived(jobs, at: now)
            lanes.claimed(jobs, at: now)
            // If the worker has been deregistered meanwhile, it does not own these jobs. The worker that deregistered
            // it releases them.
            if claim.worker == worker {
                held.accept(jobs, of: asked.request.id)
                unconfirmed.append((asked.request.id, asked.sent))
            }
            record(jobs.count, bytes: jobs.payloadBytes, of: claim, sent: asked.sent, at: now)
        case .claimSuspects(let claim):
            quarantine.claimed(!jobs.isEmpty, at: now)
            isExhausted = false
            guard claim.worker == worker else { return }
            held.accept(jobs, of: asked.request.id)
            held.confirm(asked.request.id, askedAt: asked.sent)
            if !jobs.isEmpty { actions.append(.report(.suspects(jobs.map(\.job)))) }
            if !mayStart(at: now) { held.releaseWaiting() }
        default:
            break
        }
    }

    /// Records how many jobs a claim returned.
    private mutating func record(_ count: Int, bytes: Int, of claim: Claim, sent: Instant, at now: Instant) {
        claimsWithJobs = count == 0 ? 0 : claimsWithJobs + 1
        claimLimit.answered(count, bytes: bytes, of: claim)
        isExhausted = count < claim.total && !claim.isFull(with: bytes)
        isBacklog = !isExhausted
        if claim.isLate {
            nextLateSearch = now + max(Self.leastLateSearchPause, (now - sent) * Self.lateSearchPause)
            owesLateSearch = false
        } else if isExhausted {
            owesLateSearch = true
        }
        if claim.isWide {
            isWide = false
            isWideIfEmpty = false
            nextWideClaim = now + max(Self.longestWideClaimPause, (now - sent) * Self.lateSearchPause)
        } else if isWideIfEmpty, count == 0 {
            // The worker was woken for a job that is in none of the lanes of this claim.
            isWide = true
            isExhausted = false
        }
        if let lastWakeUp, lastWakeUp.at >= sent {
            // Its job may have been inserted after the claim had begun. So the next claim is for it.
            isExhausted = false
            if lastWakeUp.isWide { isWide = true } else { isWideIfEmpty = true }
        }
        if case .polling(let kinds, let renewAt, _) = wakeUps {
            wakeUps = .polling(kinds, renewAt: renewAt, nextLook: now + HotKinds.interval)
        }
        leaveWakeUpsIfBusy(count, of: claim)
    }

    /// The server refused a claim. One job may be the reason, and must not keep the others from being claimed.
    private mutating func claimRefused(_ work: Request.Work, _ error: PostgresError) {
        // 53200 is out of memory: the claim may have been too large.
        guard !error.isTransient || error.sqlState == "53200" else { return }
        examine(after: work)
    }

    /// Schedules an examination of the jobs that the claim could have returned, and makes the next claim smaller.
    private mutating func examine(after work: Request.Work) {
        switch work {
        case .exchange(let claim?, _):
            claimLimit.refused(claim.total)
            examination = DeadLetterUnreadable(worker: worker, lanes: claim.lanes)
        case .claimSuspects:
            let lanes = settings.kinds.map { Lane(queue: settings.queues.first ?? "", kind: $0, priority: 0) }
            examination = DeadLetterUnreadable(worker: worker, lanes: lanes)
        default:
            break
        }
    }

    // MARK: Settles

    private mutating func settled(_ asked: InFlight, stopped: [String: Int64], at now: Instant) {
        refusals = 0
        if !stopped.isEmpty { held.stop(kinds: stopped, isComplete: false, at: now) }
        // Claims may include the kinds that waited for these runs to be recorded.
        if let settle = asked.request.work.settle, held.recorded(settle.runs) { isExhausted = false }
        // They made room for jobs that rules hold back.
        if !heldBack.isEmpty, case .exchange(_?, let settle?) = asked.request.work,
            settle.runs.contains(where: { heldBack[$0.kind] != nil })
        {
            isExhausted = false
        }
        if case .settleAlone = asked.request.work {
            isolation?.settled()
            endIsolationIfDone()
        } else {
            refusedRuns = [:]
        }
        // The server's write-ahead log is sequential, so every earlier claim is durable as well.
        for claim in unconfirmed where claim.id <= asked.request.id {
            held.confirm(claim.id, askedAt: claim.sent)
        }
        unconfirmed.removeAll { $0.id <= asked.request.id }
        if phase != .working || !lease.isHeld { held.releaseWaiting() }
    }

    /// The server refused to settle.
    private mutating func refused(_ asked: InFlight, _ error: PostgresError, _ actions: inout [Action]) {
        switch asked.request.work {
        case .exchange(_, let settle?) where settle.worker == worker:
            held.putBack(settle.runs, claims: settle.claims)
            refusals += 1
            if error.isTransient, refusals < SettleIsolation.mostRefusals {
                // A transiently refused settle is retried unchanged, over a new connection.
                reconnect(error, &actions)
            } else {
                let (runs, claims) = held.drainFinished()
                isolation = SettleIsolation(runs: runs, claims: claims)
                endIsolationIfDone()
            }
        case .settleAlone(let settle) where settle.worker == worker && isolation != nil:
            guard let run = settle.runs.first else { return }
            let key = RunKey(id: run.id, lease: run.lease)
            let before = refusedRuns[key, default: 0]
            if error.isTransient { refusedRuns[key] = before + 1 }
            let verdict = isolation?.refused(error, refusals: before)
            if !error.isTransient || before + 1 >= SettleIsolation.mostRefusals {
                actions.append(.report(.cannotRecord(run, error)))
            }
            if case .abandon(let run)? = verdict { held.abandon(run) }
            endIsolationIfDone(&actions)
        default:
            claimRefused(asked.request.work, error)
            reconnect(error, &actions)
        }
    }

    /// Closes the connection. Nothing more is sent over it.
    private mutating func reconnect(_ error: PostgresError, _ actions: inout [Action]) {
        isConnected = false
        actions.append(.reconnect(error))
    }

    private mutating func endIsolationIfDone() {
        var actions: [Action] = []
        endIsolationIfDone(&actions)
    }

    /// Ends the isolation once every run of the refused batch was settled by itself or is left for later.
    private mutating func endIsolationIfDone(_ actions: inout [Action]) {
        guard isolation != nil, isolation?.nextRun() == nil, let done = isolation else { return }
        isolation = nil
        held.putBack(done.left, claims: done.claims)
        if let error = done.lastError { reconnect(error, &actions) }
    }
}
