/// The lanes that every claim of a worker includes: those that gave jobs recently, and those that may have new jobs
/// according to a wake-up.
struct ActiveLanes {
    /// How long a lane stays active after it last gave a job.
    static let activeTime = Duration.seconds(5)

    /// All possible lanes, the most important queue first.
    let all: [Lane]
    private var activeUntil: [Lane: MonotonicClock.Instant] = [:]

    init(queues: [String], kinds: [String]) {
        all = (Int16(0)...9).flatMap { priority in
            queues.flatMap { queue in kinds.map { Lane(queue: queue, kind: $0, priority: priority) } }
        }
    }

    /// The lanes for a claim, the most important first. Among equals, kinds are in the order of `rotation`. Of the kinds
    /// in `whole`, it has all lanes, because rules hold back their jobs outside the lanes.
    func asked(
        kinds: Set<String>,
        rotation: [String],
        all isWide: Bool,
        whole: Set<String> = [],
        at now: MonotonicClock.Instant
    ) -> [Lane] {
        let ranks = Dictionary(uniqueKeysWithValues: rotation.enumerated().map { ($1, $0) })
        return all.filter { kinds.contains($0.kind) && (isWide || whole.contains($0.kind) || isActive($0, at: now)) }
            .enumerated()
            .sorted {
                ($0.element.priority, ranks[$0.element.kind] ?? 0, $0.offset)
                    < ($1.element.priority, ranks[$1.element.kind] ?? 0, $1.offset)
            }
            .map(\.element)
    }

    private func isActive(_ lane: Lane, at now: MonotonicClock.Instant) -> Bool {
        guard let until = activeUntil[lane] else { return false }
        return until > now
    }

    /// Marks the lanes of a claim's jobs as active.
    mutating func claimed(_ jobs: [ClaimedJob], at now: MonotonicClock.Instant) {
        var last: Lane?
        for job in jobs where last.map({ !job.isIn($0) }) ?? true {
            last = job.lane
            activeUntil[job.lane] = now + Self.activeTime
        }
    }

    /// Marks the likely lanes of a kind as active after an insert, so that the next claim includes them.
    mutating func woken(kind: String, at now: MonotonicClock.Instant) {
        for lane in all where lane.kind == kind && (lane.priority == 5 || activeUntil[lane] != nil) {
            activeUntil[lane] = now + Self.activeTime
        }
    }
}
