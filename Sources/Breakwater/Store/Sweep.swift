package import Libpq

/// `breakwater.sweep`: where each lane's first ready job is.
package struct Sweep: StoreCall {
    package var lanes: [Lane]
    package var floors: [Int64]

    package var statement: Statement {
        Statement(
            "select places::bigint[], first_ready, highest, timeline from breakwater.sweep($1, $2, $3, $4)",
            [
                .textArray(lanes.map(\.queue)),
                .textArray(lanes.map(\.kind)),
                .int2Array(lanes.map(\.priority)),
                .int8Array(floors),
            ]
        )
    }

    package struct Output: Sendable {
        /// The lanes that hold ready jobs, with the position of the first.
        package var found: [Lane: Int64]
        /// Where the positions come from.
        package var source: PositionSource
    }

    package func decode(_ result: QueryResult) throws(PostgresError) -> Output {
        let row = try result.row(0)
        return Output(
            found: try lanes.values(try row[1].int64Array(), at: try row[0].int64Array()),
            source: PositionSource(timeline: try row[3].isNull ? nil : row[3].int64(), highest: try row[2].int64())
        )
    }
}

/// `breakwater.floors`: the floors of lanes as others have noted them.
package struct Floors: StoreCall {
    package var lanes: [Lane]

    package var statement: Statement {
        Statement(
            "select places::bigint[], floors from breakwater.floors($1, $2, $3)",
            [.textArray(lanes.map(\.queue)), .textArray(lanes.map(\.kind)), .int2Array(lanes.map(\.priority))]
        )
    }

    package func decode(_ result: QueryResult) throws(PostgresError) -> [Lane: Int64] {
        let row = try result.row(0)
        return try lanes.values(try row[1].int64Array(), at: try row[0].int64Array())
    }
}

/// `breakwater.note_floors`: tells others of floors.
package struct NoteFloors: StoreCall {
    package var floors: [(lane: Lane, floor: Int64)]

    package var statement: Statement {
        Statement(
            "select breakwater.note_floors($1, $2, $3, $4)",
            [
                .textArray(floors.map(\.lane.queue)),
                .textArray(floors.map(\.lane.kind)),
                .int2Array(floors.map(\.lane.priority)),
                .int8Array(floors.map(\.floor)),
            ]
        )
    }

    package func decode(_ result: QueryResult) {}
}

extension [Lane] {
    /// What the database said of some of these lanes, which it names by their places, from 1.
    fileprivate func values(_ values: [Int64], at places: [Int64]) throws(PostgresError) -> [Lane: Int64] {
        var found: [Lane: Int64] = [:]
        for (place, value) in zip(places, values) {
            guard (1...Int64(count)).contains(place) else {
                throw PostgresError(.decoding, "the database answered about lane \(place) of \(count)")
            }
            found[self[Int(place) - 1]] = value
        }
        return found
    }
}

/// What draws the positions of jobs: as long as it is the same, what was drawn once is not drawn again.
package struct PositionSource: Sendable, Equatable {
    /// The timeline of the server's write-ahead log, which changes when a standby takes over or a backup is restored;
    /// nil on a standby.
    var timeline: Int64?
    /// The highest position drawn so far.
    var highest: Int64

    /// Whether positions go on from where another source stood.
    func continues(_ earlier: PositionSource) -> Bool {
        highest >= earlier.highest && (timeline == nil || earlier.timeline == nil || timeline == earlier.timeline)
    }
}

/// `breakwater.horizon`: whether nothing can appear any more below a position noted earlier, and a new note.
package struct Horizon: StoreCall {
    /// The transactions that could still add jobs when the last note was taken.
    package var holders: [String]

    package struct Output: Sendable {
        /// Whether all of the given holders have ended.
        package var passed: Bool
        /// The highest position drawn so far.
        package var highest: Int64
        /// The transactions that could still add jobs at or below it.
        package var holders: [String]
    }

    package var statement: Statement {
        Statement("select passed, highest, holders from breakwater.horizon($1)", [.textArray(holders)])
    }

    package func decode(_ result: QueryResult) throws(PostgresError) -> Output {
        let row = try result.row(0)
        return Output(
            passed: try row[0].bool(),
            highest: try row[1].int64(),
            holders: try row[2].stringArray()
        )
    }
}
