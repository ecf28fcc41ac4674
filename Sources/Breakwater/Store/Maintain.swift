package import Libpq

/// `breakwater.chores`: the names of the fleet's chores, in the order in which they are done.
package struct Chores: StoreCall {
    package var statement: Statement { Statement("select breakwater.chores()") }

    package func decode(_ result: QueryResult) throws(PostgresError) -> [String] { try result.row(0)[0].stringArray() }
}

/// `breakwater.maintain`: some of the fleet's chores, if this worker leads.
package struct Maintain: StoreCall {
    package var worker: Int64
    /// How long the leadership lasts unless renewed.
    package var term: Duration
    /// Which chores; nil for all of them, in one transaction.
    package var chores: [String]?

    /// A chore that was undone, and why.
    package struct Failure: Sendable, Equatable {
        package var chore: String
        package var reason: String
    }

    package struct Output: Sendable {
        package var leads: Bool
        package var promoted = 0
        package var rescued = 0
        package var advanced = 0
        package var fellBack = 0
        package var unparked = 0
        /// Until the next scheduled job is due; nil if there is none.
        package var nextDue: Duration?
        package var failures: [Failure] = []

        /// Adds the result of another call.
        mutating func add(_ other: Output) {
            leads = other.leads
            promoted += other.promoted
            rescued += other.rescued
            advanced += other.advanced
            fellBack += other.fellBack
            unparked += other.unparked
            nextDue = other.nextDue ?? nextDue
            failures += other.failures
        }
    }

    package var statement: Statement {
        let columns = "leads, promoted, rescued, advanced, fell_back, unparked, next_due, failed, reasons"
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
        return Output(
            leads: true,
            promoted: try row[1].intOrNil() ?? 0,
            rescued: try row[2].intOrNil() ?? 0,
            advanced: try row[3].intOrNil() ?? 0,
            fellBack: try row[4].intOrNil() ?? 0,
            unparked: try row[5].intOrNil() ?? 0,
            nextDue: try row[6].secondsOrNil(),
            failures: zip(try row[7].stringArray(), try row[8].stringArray()).map { Failure(chore: $0, reason: $1) }
        )
    }
}
