package import Libpq

/// `breakwater.chores`: the names of the fleet's chores, in the order in which they are done.
package struct Chores: StoreCall {
    package var statement: Statement { Statement("select breakwater.chores()") }

    package func decode(_ result: QueryResult) throws(PostgresError) -> [String] { try result.row(0)[0].stringArray() }
}

/// `breakwater.maintain`: does some of the fleet's chores, if this worker leads.
package struct Maintain: StoreCall {
    package var worker: Int64
    /// How long the leadership lasts unless it is renewed.
    package var term: Duration
    /// The chores to do; nil for all of them, in one transaction.
    package var chores: [String]?

    /// A chore that was rolled back, and the reason.
    package struct Failure: Sendable, Equatable {
        package var chore: String
        package var reason: String
    }

    /// The number of rows of the table of jobs, according to the server's statistics.
    package struct Rows: Sendable, Equatable {
        package var dead: Int64
        package var live: Int64
    }

    package struct Output: Sendable {
        package var leads: Bool
        package var promoted = 0
        package var rescued = 0
        package var advanced = 0
        package var fellBack = 0
        package var unparked = 0
        /// The slots of schedules that were dealt with.
        package var scheduled = 0
        /// The time until the next job that waits for its time is due, or the next slot of a schedule; nil if there is
        /// none.
        package var nextDue: Duration?
        /// The rows of the table of jobs; nil if this worker's role may not vacuum it.
        package var rows: Rows?
        package var failures: [Failure] = []

        /// Adds the result of another call.
        mutating func add(_ other: Output) {
            leads = other.leads
            promoted += other.promoted
            rescued += other.rescued
            advanced += other.advanced
            fellBack += other.fellBack
            unparked += other.unparked
            scheduled += other.scheduled
            nextDue = [nextDue, other.nextDue].compactMap(\.self).min()
            rows = other.rows ?? rows
            failures += other.failures
        }
    }

    package var statement: Statement {
        let columns =
            """
            leads, promoted, rescued, advanced, fell_back, unparked, scheduled, next_due, dead_rows, live_rows, failed, \
            reasons
            """
        guard let chores else {
            return Statement(
                "select \(columns) from breakwater.maintain($1, $2)",
                [.int8(worker), .float8(term.inSeconds)]
            )
        }
        return Statement(
            "select \(columns) from breakwater.maintain($1, $2, $3)",
            [.int8(worker), .float8(term.inSeconds), .textArray(chores)]
        )
    }

    package func decode(_ result: QueryResult) throws(PostgresError) -> Output {
        let row = try result.row(0)
        guard try row[0].bool() else { return Output(leads: false) }
        var rows: Rows?
        if let dead = try row[8].int64OrNil(), let live = try row[9].int64OrNil() {
            rows = Rows(dead: dead, live: live)
        }
        return Output(
            leads: true,
            promoted: try row[1].intOrNil() ?? 0,
            rescued: try row[2].intOrNil() ?? 0,
            advanced: try row[3].intOrNil() ?? 0,
            fellBack: try row[4].intOrNil() ?? 0,
            unparked: try row[5].intOrNil() ?? 0,
            scheduled: try row[6].intOrNil() ?? 0,
            nextDue: try row[7].secondsOrNil(),
            rows: rows,
            failures: zip(try row[10].stringArray(), try row[11].stringArray()).map { Failure(chore: $0, reason: $1) }
        )
    }
}
