extension Consumer {
    /// Jobs may have come: of one kind, whose likely lanes the next claim asks; or of any kind, if it is nil.
    mutating func woken(kind: String?, at now: Instant) {
        isExhausted = false
        if let kind {
            lanes.woken(kind: kind, at: now)
            isWideIfEmpty = true
        } else {
            isWide = true
        }
    }

    /// The database has noted how this worker hears of inserts. Earlier inserts woke no worker, so a look must follow.
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

    /// A worker that finds jobs again and again is too busy to need waking. If a polling worker cannot keep up, it
    /// stops polling so that other workers are notified.
    mutating func leaveWakeUpsIfBusy(_ count: Int, of claim: Claim) {
        switch wakeUps {
        case .asleep where claimsWithJobs >= Self.busyClaims: isTooBusyToBeWoken = true
        case .polling where count == claim.total: isTooBusyToBeWoken = true
        default: break
        }
    }
}
