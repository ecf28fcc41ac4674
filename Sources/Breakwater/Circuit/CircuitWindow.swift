/// Counts of some calls of one circuit that were settled together.
struct CircuitCalls: Sendable, Equatable {
    var succeeded = 0
    var failed = 0
    /// How many of the successes were slow.
    var slowSucceeded = 0
    /// How many of the failures were slow.
    var slowFailed = 0
    /// The name of a failure among them that opens the circuit at once, if there is one.
    var trip: String?
    /// How long the dependency asked to wait.
    var retryAfter: Duration?

    /// How many of the failures are repeats: their jobs had failed before, and others have succeeded since.
    var repeats = 0
    /// How many of the repeats were slow.
    var slowRepeats = 0

    var slow: Int { slowSucceeded + slowFailed }

    /// The counts without the repeats, which count for no rate and no streak.
    var votes: CircuitCalls {
        var votes = self
        votes.failed -= repeats
        votes.slowFailed -= slowRepeats
        (votes.repeats, votes.slowRepeats) = (0, 0)
        return votes
    }
}

/// The calls by which a closed circuit is judged: those of the last seconds or a number of the latest ones, and the
/// failures in a row.
///
/// Calls that were settled together have no order. Their failures count as earlier than their successes, so that a
/// success among them ends a streak.
struct CircuitWindow: Sendable {
    /// The counts of the window at a moment.
    struct Counts: Sendable, Equatable {
        var calls = 0
        var failed = 0
        var slow = 0

        fileprivate static func += (left: inout Counts, right: Counts) {
            left.calls += right.calls
            left.failed += right.failed
            left.slow += right.slow
        }

        fileprivate static func -= (left: inout Counts, right: Counts) {
            left.calls -= right.calls
            left.failed -= right.failed
            left.slow -= right.slow
        }
    }

    /// The calls of one second.
    private struct Slot {
        var second: Duration
        var counts: Counts
    }

    private let extent: CircuitPolicy.Window
    private var total = Counts()
    /// The slots of a window by time, the oldest first. There is at most one more slot than the window has seconds.
    private var slots: [Slot] = []
    /// The ring of single calls of a window by count.
    private var ring: [Counts] = []
    private var oldest = 0
    /// The number of failures since the last success, whether they are still in the window or not.
    private(set) var streak = 0

    init(_ extent: CircuitPolicy.Window) { self.extent = extent }

    /// Adds calls that were settled now.
    mutating func add(_ calls: CircuitCalls, at now: Duration) {
        streak = calls.succeeded > 0 ? 0 : streak + calls.failed
        switch extent {
        case .time:
            let counts = Counts(calls: calls.succeeded + calls.failed, failed: calls.failed, slow: calls.slow)
            let second = Duration.seconds(now.wholeSeconds)
            if let last = slots.indices.last, slots[last].second == second {
                slots[last].counts += counts
            } else {
                slots.append(Slot(second: second, counts: counts))
            }
            total += counts
            forget(at: now)
        case .calls(let size):
            for index in 0..<calls.failed {
                push(Counts(calls: 1, failed: 1, slow: index < calls.slowFailed ? 1 : 0), size: size)
            }
            for index in 0..<calls.succeeded {
                push(
                    Counts(calls: 1, failed: 0, slow: index >= calls.succeeded - calls.slowSucceeded ? 1 : 0),
                    size: size
                )
            }
        }
    }

    /// The counts of the window now.
    mutating func counts(at now: Duration) -> Counts {
        forget(at: now)
        return total
    }

    private mutating func push(_ call: Counts, size: Int) {
        total += call
        if ring.count < size {
            ring.append(call)
        } else {
            total -= ring[oldest]
            ring[oldest] = call
            oldest = (oldest + 1) % size
        }
    }

    private mutating func forget(at now: Duration) {
        guard case .time(let length) = extent else { return }
        let old = slots.prefix { $0.second <= now - length }
        guard !old.isEmpty else { return }
        for slot in old { total -= slot.counts }
        slots.removeFirst(old.count)
    }
}

extension Duration {
    /// The seconds of this duration, rounded down.
    fileprivate var wholeSeconds: Int64 {
        let (seconds, attoseconds) = components
        return attoseconds < 0 ? seconds - 1 : seconds
    }
}
