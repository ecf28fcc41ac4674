/// Whether a worker still has the right to its jobs.
struct Lease {
    typealias Instant = MonotonicClock.Instant

    let length: Duration
    /// False while the lease may have ended: nothing is claimed or started.
    private(set) var isHeld = true
    /// Three quarters of the lease after the last answered heartbeat, not counting proven absences of the database:
    /// until then no other worker can have this worker's jobs. Later nothing starts, whether or not the loss was
    /// noticed: a process that was stopped for a while finds out only by looking at the clock.
    private(set) var sureUntil: Instant

    /// A time in which the database served nobody, as far as this worker has proof of it.
    private var absence: (began: Instant, proven: Instant)?

    /// The database counts at most half as much of an absence as silence (see breakwater.record_absence).
    private static let countedAbsence = Duration.seconds(2)

    /// An absence that is not proven again for longer may have ended. If it did end and begin again within that time,
    /// the database counts no more than the last quarter of the lease, which this worker leaves out.
    private var longestGap: Duration { length / 5 }

    init(length: Duration, heldSince start: Instant) {
        self.length = length
        sureUntil = start + length * 3 / 4
    }

    /// Whether it is certain that no other worker has this worker's jobs.
    func isSure(at now: Instant) -> Bool { isHeld && now <= sureUntil }

    /// It may have ended.
    mutating func lose() { isHeld = false }

    /// The database serves nobody now. While this is proven again and again, the lease goes on: the database does not
    /// count that time as silence.
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

    /// It was held when this heartbeat was sent, which is earlier than when the database saw it.
    mutating func regain(asOf sent: Instant) {
        isHeld = true
        absence = nil
        sureUntil = max(sureUntil, sent + length * 3 / 4)
    }
}
