/// Decides whether a worker may still run its jobs.
struct Lease {
    typealias Instant = MonotonicClock.Instant

    let length: Duration
    /// Whether the lease is held. While this is false, nothing is claimed or started.
    private(set) var isHeld = true
    /// Until this time no other worker can have this worker's jobs: three quarters of the lease after the last answered
    /// heartbeat, not counting proven outages of the database. Afterwards nothing starts, even if the loss was not yet
    /// handled, because a process that was suspended notices this only by reading the clock.
    private(set) var sureUntil: Instant

    /// A period in which this worker has proof that the database served no client.
    private var absence: (began: Instant, proven: Instant)?

    /// How much of an absence may count as the worker's silence. The database counts at most half as much (see
    /// breakwater.record_absence).
    private static let countedAbsence = Duration.seconds(2)

    /// The longest time between two proofs of one absence. After a longer time the absence may have ended. If it ends
    /// and begins again within this time, the database counts no more than the last quarter of the lease, which this
    /// worker does not use.
    private var longestGap: Duration { length / 5 }

    init(length: Duration, heldSince start: Instant) {
        self.length = length
        sureUntil = start + length * 3 / 4
    }

    /// Whether it is certain that no other worker has this worker's jobs.
    func isSure(at now: Instant) -> Bool { isHeld && now <= sureUntil }

    /// Records that the lease may have ended.
    mutating func lose() { isHeld = false }

    /// Records proof that the database serves no client now. While such proof continues, the lease is extended, because
    /// the database does not count that time as silence.
    mutating func databaseIsAbsent(at now: Instant) {
        guard isSure(at: now) else { return }
        guard let last = absence, now - last.proven <= longestGap else {
            absence = (now, now)
            return
        }
        let before = max(.zero, last.proven - last.began - Self.countedAbsence)
        sureUntil += max(.zero, now - last.began - Self.countedAbsence) - before
        absence = (last.began, now)
    }

    /// Records that the lease was held when this heartbeat was sent. The database received the heartbeat later than
    /// that.
    mutating func regain(asOf sent: Instant) {
        isHeld = true
        absence = nil
        sureUntil = max(sureUntil, sent + length * 3 / 4)
    }
}
