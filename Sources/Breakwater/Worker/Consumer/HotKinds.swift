/// The kinds whose inserts are so frequent that a worker polls for their jobs instead of being notified of each.
///
/// A notification takes a lock at the commit of each insert, which serializes the inserts. So while jobs of a kind
/// arrive faster than one each ten milliseconds, the worker polls its lanes each ``interval``, and inserts notify no
/// worker. When jobs arrive more slowly, the worker waits for notifications again, and each insert wakes it at once.
struct HotKinds {
    typealias Instant = MonotonicClock.Instant

    /// The time from one poll to the next.
    static let interval = Duration.milliseconds(5)
    /// Inserts stay unnoticed for at most this long after a polling worker dies.
    static let term = Duration.seconds(1)
    /// Jobs are counted in slots of this length.
    static let slot = Duration.milliseconds(100)
    /// A kind becomes hot when this many jobs arrive in a slot.
    static let least = 10
    /// A hot kind stays hot until fewer jobs than this arrive. The number is close to ``least``, so that a short burst
    /// soon loses its effect.
    static let few = 7

    private struct Arrivals {
        var slotStart: Instant
        var count = 0
        var lastCount = 0

        mutating func roll(to now: Instant) {
            let age = now - slotStart
            guard age >= HotKinds.slot else { return }
            lastCount = age < HotKinds.slot * 2 ? count : 0
            count = 0
            slotStart = now
        }
    }

    private var arrivals: [String: Arrivals] = [:]
    /// The kinds that are hot.
    private(set) var kinds: Set<String> = []

    /// Counts the jobs of a claim as arrivals.
    mutating func arrived(_ jobs: [ClaimedJob], at now: Instant) {
        var rest = jobs[...]
        while let first = rest.first {
            let run = rest.prefix { $0.job.isLike(first.job) }
            rest = rest[run.endIndex...]
            arrivals[first.job.kind, default: Arrivals(slotStart: now)].roll(to: now)
            arrivals[first.job.kind, default: Arrivals(slotStart: now)].count += run.count
        }
    }

    /// Decides again which kinds are hot.
    mutating func review(at now: Instant) {
        for kind in arrivals.keys {
            arrivals[kind]?.roll(to: now)
            let most = arrivals[kind].map { max($0.count, $0.lastCount) } ?? 0
            if most >= (kinds.contains(kind) ? Self.few : Self.least) {
                kinds.insert(kind)
            } else {
                kinds.remove(kind)
            }
            if most == 0 { arrivals[kind] = nil }
        }
    }
}
