/// Whether a worker still has the right to its jobs.
struct Lease {
    typealias Instant = MonotonicClock.Instant

    let length: Duration
    /// False while the lease may have ended: nothing is claimed or started.
    private(set) var isHeld = true
    /// Three quarters of the lease after the last answered heartbeat: until then no other worker can have this worker's
    /// jobs. Later nothing starts, whether or not the loss was noticed: a process that was stopped for a while finds
    /// out only by looking at the clock.
    private(set) var sureUntil: Instant

    init(length: Duration, heldSince start: Instant) {
        self.length = length
        sureUntil = start + length * 3 / 4
    }

    /// Whether it is certain that no other worker has this worker's jobs.
    func isSure(at now: Instant) -> Bool { isHeld && now <= sureUntil }

    /// It may have ended.
    mutating func lose() { isHeld = false }

    /// It was held when this heartbeat was sent, which is earlier than when the database saw it.
    mutating func regain(asOf sent: Instant) {
        isHeld = true
        sureUntil = max(sureUntil, sent + length * 3 / 4)
    }
}
