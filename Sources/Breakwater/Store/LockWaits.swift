package import Libpq

/// `breakwater.lock_waits`: the sessions whose locks block others that use Breakwater's tables.
package struct LockWaits: StoreCall {
    /// One such session.
    package struct Blocker: Sendable, Equatable {
        /// The process id of the session's backend; 0 for a prepared transaction.
        package var pid: Int
        /// How many sessions wait for this one.
        package var waiting: Int
        /// How long the first of them has waited.
        package var longest: Duration
        /// Describes who the session belongs to and what it does.
        package var words: String
    }

    package var statement: Statement {
        Statement("select pid, waiting, extract(epoch from longest)::float8, words from breakwater.lock_waits()")
    }

    package func decode(_ result: QueryResult) throws(PostgresError) -> [Blocker] {
        var blockers: [Blocker] = []
        for row in result {
            blockers.append(
                Blocker(
                    pid: try row[0].int(),
                    waiting: try row[1].int(),
                    longest: try row[2].secondsOrNil() ?? .zero,
                    words: try row[3].string()
                )
            )
        }
        return blockers
    }
}
