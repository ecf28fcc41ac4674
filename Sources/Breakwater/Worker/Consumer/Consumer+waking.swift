extension Consumer {
    /// Records that jobs may have been inserted. The next claim includes the likely lanes of the kind, or all lanes if
    /// the kind is nil.
    mutating func woken(kind: String?, at now: Instant) {
        isExhausted = false
        lastWakeUp = (now, kind == nil)
        if let kind {
            lanes.woken(kind: kind, at: now)
            isWideIfEmpty = true
        } else {
            isWide = true
        }
    }

    /// Records that the database has stored how this worker learns of inserts. Earlier inserts notified no worker, so a
    /// claim must follow.
    mutating func recordWakeUps(_ asked: InFlight, at now: Instant) {
        switch asked.request.work {
        case .sleep(let sleep):
            wakeUps = sleep.kinds.isEmpty ? .none : .asleep
            isExhausted = false
            isWide = true
        case .poll(let poll):
            wakeUps = .polling(
                Set(poll.polled),
                renewAt: asked.sent + HotKinds.term / 2,
                nextLook: now + HotKinds.interval
            )
        default:
            break
        }
    }

    /// Ends the notifications of a worker that finds jobs at every claim, because it is busy. If a polling worker
    /// cannot keep up, it stops polling so that other workers are notified.
    mutating func leaveWakeUpsIfBusy(_ count: Int, of claim: Claim) {
        switch wakeUps {
        case .asleep where claimsWithJobs >= Self.busyClaims: mustCancelNotifications = true
        case .polling where count == claim.total: mustCancelNotifications = true
        default: break
        }
    }
}
