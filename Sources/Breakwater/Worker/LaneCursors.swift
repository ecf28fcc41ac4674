/// Where a worker stands in each lane: which lanes to ask, and from where.
///
/// A claim scans from the lane's *cursor*, behind the last job this worker took, so dead index entries in front cost
/// nothing. Jobs can still appear behind a cursor (a transaction that drew its position early and committed late, a
/// claim that rolled back), so a *sweep* looks from the lane's *floor*, below which nothing can be ready any more, and
/// moves the cursor back to what it finds.
struct LaneCursors {
    /// How long a lane stays among those asked at every claim after it last gave a job.
    static let activeTime = Duration.seconds(5)

    private struct Place {
        var cursor: Int64 = 0
        var floor: Int64 = 0
        /// Until when the lane is asked at every claim.
        var activeUntil: Moment?
        /// The first ready position that the last sweep found, if it found one.
        var seen: Int64?
        /// The floor that others know of.
        var notedFloor: Int64 = 0
    }

    /// What was noted for the next proof of a floor.
    private struct Note {
        var highest: Int64
        var holders: [String]
    }

    /// Every lane there can be, most important queue first.
    let all: [Lane]
    private var places: [Lane: Place]
    private var note: Note?
    private var source: PositionSource?

    init(queues: [String], kinds: [String]) {
        all = (Int16(0)...9).flatMap { priority in
            queues.flatMap { queue in kinds.map { Lane(queue: queue, kind: $0, priority: priority) } }
        }
        places = Dictionary(all.map { ($0, Place()) }) { first, _ in first }
    }

    /// Forgets everything, for what the next connection leads to may be a standby that took over and had not heard of the
    /// last positions: they are drawn again, below the cursors and floors of before.
    mutating func forget() {
        places = places.mapValues { _ in Place() }
        note = nil
        source = nil
    }

    /// Forgets everything if positions no longer come from where they came before, which a pooler hides.
    ///
    /// - Returns: Whether that is so. What a sweep found from the old floors is of no use then.
    mutating func hasForgotten(for newSource: PositionSource) -> Bool {
        let isNew = source.map { !newSource.continues($0) } ?? false
        if isNew { forget() }
        source = newSource
        return isNew
    }

    /// Begins where others have found that nothing can be ready below.
    mutating func begin(at floors: [Lane: Int64]) {
        for (lane, floor) in floors {
            guard var place = places[lane], floor > place.floor else { continue }
            (place.floor, place.notedFloor) = (floor, floor)
            place.cursor = max(place.cursor, floor)
            places[lane] = place
        }
    }

    /// The floors to tell others of: of lanes that had jobs, those that rose by so much since; they count as told.
    mutating func takeFloorsToNote(risenBy step: Int64) -> [(lane: Lane, floor: Int64)] {
        var floors: [(lane: Lane, floor: Int64)] = []
        for lane in all {
            guard let place = places[lane], place.activeUntil != nil else { continue }
            guard place.floor - place.notedFloor >= step else { continue }
            places[lane]?.notedFloor = place.floor
            floors.append((lane, place.floor))
        }
        return floors
    }

    /// The lanes to ask in a claim, most important first; among equals, the kind after `rotation` first.
    func active(kinds: Set<String>, rotation: [String], at now: Moment) -> [Lane] {
        let ranks = Dictionary(uniqueKeysWithValues: rotation.enumerated().map { ($1, $0) })
        return all.filter { kinds.contains($0.kind) && isActive($0, at: now) }
            .enumerated()
            .sorted {
                ($0.element.priority, ranks[$0.element.kind] ?? 0, $0.offset)
                    < ($1.element.priority, ranks[$1.element.kind] ?? 0, $1.offset)
            }
            .map(\.element)
    }

    private func isActive(_ lane: Lane, at now: Moment) -> Bool {
        guard let until = places[lane]?.activeUntil else { return false }
        return until > now
    }

    func cursor(of lane: Lane) -> Int64 { places[lane]?.cursor ?? 0 }

    func floor(of lane: Lane) -> Int64 { places[lane]?.floor ?? 0 }

    /// Takes note of a claim: the cursors of its lanes move behind its jobs.
    mutating func claimed(_ reaches: [Claim.Reach], at now: Moment) {
        for reach in reaches {
            guard var place = places[reach.lane] else { continue }
            place.cursor = max(place.cursor, reach.position)
            place.activeUntil = now + Self.activeTime
            places[reach.lane] = place
        }
    }

    /// Takes note that jobs of a kind were inserted somewhere: its likely lanes are asked at the next claim.
    mutating func woken(kind: String, at now: Moment) {
        for lane in all where lane.kind == kind && (lane.priority == 5 || places[lane]?.activeUntil != nil) {
            places[lane]?.activeUntil = now + Self.activeTime
        }
    }

    /// What `breakwater.horizon` is asked with, the holders noted last time; nil while every floor is as high as its
    /// cursor and there is nothing to prove.
    var notedHolders: [String]? {
        places.values.contains { $0.floor < $0.cursor } ? note?.holders ?? [] : nil
    }

    /// Takes note of a sweep.
    ///
    /// - Parameters:
    ///   - found: The lanes with ready jobs, and the position of the first.
    ///   - horizon: What `breakwater.horizon` answered in a statement before the sweep; nil if it was not asked.
    ///   - now: The time.
    /// - Returns: Whether the next claim can find jobs that the last could not.
    mutating func swept(_ found: [Lane: Int64], horizon: Horizon.Output?, at now: Moment) -> Bool {
        var proven: Int64 = 0
        if let horizon {
            // Once the noted holders have ended, everything up to the noted position was committed before this sweep.
            if horizon.passed { proven = note?.highest ?? 0 }
            if horizon.passed || note == nil {
                note = Note(highest: horizon.highest, holders: horizon.holders)
            }
        }

        var hasNews = false
        for lane in all {
            guard var place = places[lane] else { continue }
            if let first = found[lane] {
                // Saturating: whoever owns the tables can write any position into them.
                let before = max(first, .min + 1) - 1
                place.floor = max(place.floor, min(proven, before))
                // A job that the last sweep found already is one that claims do not get: it is paused, or locked.
                hasNews = hasNews || first <= place.cursor || first != place.seen || !isActive(lane, at: now)
                place.cursor = before
                place.seen = first
                place.activeUntil = now + Self.activeTime
            } else {
                place.floor = max(place.floor, proven)
                place.cursor = max(place.cursor, place.floor)
                place.seen = nil
            }
            places[lane] = place
        }
        return hasNews
    }
}
