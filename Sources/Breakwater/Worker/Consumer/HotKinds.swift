/// The kinds whose jobs come so often that a worker polls for them instead of being woken for each.
///
/// A wake-up takes a lock at the commit of each insert, one after another. So while jobs of a kind come faster than one
/// each ten milliseconds, its worker polls its lanes each ``interval``, and inserts notify no worker. When jobs come
/// more slowly, the worker sleeps again, and each insert wakes it at once.
struct HotKinds {
    typealias Instant = MonotonicClock.Instant

    /// The time from one look to the next.
    static let interval = Duration.milliseconds(5)
    /// Inserts stay unnoticed for at most this long after a polling worker dies.
    static let term = Duration.seconds(1)
    /// Jobs are counted in slots of this length.
    static let slot = Duration.milliseconds(100)
    /// A kind becomes hot at this many jobs in a slot,
    static let least = 10
    /// and stays hot until there are fewer than this: close to ``least``, so that a burst is soon forgotten.
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

    /// Takes note of a claim's jobs.
    mutating func arrived(_ jobs: [ClaimedJob], at now: Instant) {
        var rest = jobs[...]
        while let first = rest.first {
            let run = rest.prefix { $0.job.isLike(first.job) }
            rest = rest[run.endIndex...]
            arrivals[first.job.kind, default: Arrivals(slotStart: now)].roll(to: now)
            arrivals[first.job.kind, default: Arrivals(slotStart: now)].count += run.count
        }
    }

    /// Decides anew which kinds are hot.
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
