/// Which lanes a worker asks at every claim: those that gave jobs lately, and those that a wake-up says may have new
/// ones.
struct ActiveLanes {
    /// How long a lane stays among those asked at every claim after it last gave a job.
    static let activeTime = Duration.seconds(5)

    /// Every lane there can be, most important queue first.
    let all: [Lane]
    private var activeUntil: [Lane: MonotonicClock.Instant] = [:]

    init(queues: [String], kinds: [String]) {
        all = (Int16(0)...9).flatMap { priority in
            queues.flatMap { queue in kinds.map { Lane(queue: queue, kind: $0, priority: priority) } }
        }
    }

    /// The lanes to ask in a claim, most important first; among equals, the kind after `rotation` first.
    func asked(kinds: Set<String>, rotation: [String], all isWide: Bool, at now: MonotonicClock.Instant) -> [Lane] {
        let ranks = Dictionary(uniqueKeysWithValues: rotation.enumerated().map { ($1, $0) })
        return all.filter { kinds.contains($0.kind) && (isWide || isActive($0, at: now)) }
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

    /// Takes note of a claim's jobs.
    mutating func claimed(_ jobs: [ClaimedJob], at now: MonotonicClock.Instant) {
        var last: Lane?
        for job in jobs where last.map({ !job.isIn($0) }) ?? true {
            last = job.lane
            activeUntil[job.lane] = now + Self.activeTime
        }
    }

    /// Takes note that jobs of a kind were inserted somewhere: its likely lanes are asked at the next claim.
    mutating func woken(kind: String, at now: MonotonicClock.Instant) {
        for lane in all where lane.kind == kind && (lane.priority == 5 || activeUntil[lane] != nil) {
            activeUntil[lane] = now + Self.activeTime
        }
    }
}
