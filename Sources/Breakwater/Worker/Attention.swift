/// To which kinds jobs come so often that a worker rather looks for them by itself than be told of each.
///
/// Telling takes a lock at the commit of each insert, one after another. So while jobs of a kind come faster than one
/// each ten milliseconds, its worker looks at its lanes each ``interval``, and nobody is told. When they come more
/// slowly, it sleeps again and is woken at once.
struct Attention {
    /// From one look to the next.
    static let interval = Duration.milliseconds(5)
    /// How long others may rely on it. A worker that dies is missed for so long.
    static let term = Duration.seconds(1)
    /// Jobs are counted in slots of this length.
    static let slot = Duration.milliseconds(100)
    /// A kind is attended from so many jobs in a slot on,
    static let least = 10
    /// and until there are fewer than this: near enough to it that a burst among jobs that trickle is soon forgotten.
    static let few = 7

    private struct Arrivals {
        var slotStart: Moment
        var count = 0
        var lastCount = 0

        mutating func roll(to now: Moment) {
            let age = now - slotStart
            guard age >= Attention.slot else { return }
            lastCount = age < Attention.slot * 2 ? count : 0
            count = 0
            slotStart = now
        }
    }

    private var arrivals: [String: Arrivals] = [:]
    /// The kinds that are attended.
    private(set) var kinds: Set<String> = []

    /// Takes note of a claim's jobs.
    mutating func arrived(_ jobs: [ClaimedJob], at now: Moment) {
        var rest = jobs[...]
        while let kind = rest.first?.job.kind {
            let run = rest.prefix { $0.job.kind == kind }
            rest = rest[run.endIndex...]
            arrivals[kind, default: Arrivals(slotStart: now)].roll(to: now)
            arrivals[kind, default: Arrivals(slotStart: now)].count += run.count
        }
    }

    /// Looks anew to which kinds jobs come often.
    mutating func review(at now: Moment) {
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
