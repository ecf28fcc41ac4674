package import Libpq

/// `breakwater.sweep`: where each lane's first ready job is.
package struct Sweep: StoreCall {
    package var lanes: [Lane]
    package var floors: [Int64]

    package var statement: Statement {
        Statement(
            "select place, first_ready from breakwater.sweep($1, $2, $3, $4)",
            [
                .textArray(lanes.map(\.queue)),
                .textArray(lanes.map(\.kind)),
                .int2Array(lanes.map(\.priority)),
                .int8Array(floors),
            ]
        )
    }

    /// The lanes that hold ready jobs, with the position of the first.
    package func decode(_ result: QueryResult) throws(PostgresError) -> [Lane: Int64] {
        var found: [Lane: Int64] = [:]
        for row in result {
            let place = try row[0].int64()
            guard (1...Int64(lanes.count)).contains(place) else {
                throw PostgresError(.decoding, "the database answered about lane \(place) of \(lanes.count)")
            }
            found[lanes[Int(place) - 1]] = try row[1].int64()
        }
        return found
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
