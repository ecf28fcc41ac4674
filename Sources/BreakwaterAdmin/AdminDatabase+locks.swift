package import Libpq

/// One row of `breakwater.lock_waits`: a session whose locks block others that use Breakwater's tables.
package struct LockWait: Equatable, Sendable {
    /// The process id of the session's backend; 0 for a prepared transaction.
    package var pid: Int
    /// How many sessions wait for this one.
    package var waiting: Int
    /// How long the first of them has waited.
    package var longest: Duration
    /// Describes who the session belongs to and what it does.
    package var words: String

    package init(pid: Int, waiting: Int, longest: Duration, words: String) {
        self.pid = pid
        self.waiting = waiting
        self.longest = longest
        self.words = words
    }

    /// The row as a sentence.
    package var sentence: String {
        let who =
            switch waiting {
            case 0: "nobody waits"
            case 1: "1 session waits"
            default: "\(waiting) sessions wait"
            }
        return "\(who) for a lock on Breakwater's tables that is held by \(words)"
    }
}

extension AdminDatabase {
    /// `breakwater.lock_waits`: the sessions whose locks block others, the one with the longest queue first.
    package func lockWaits() async throws -> [LockWait] {
        try await read(
            "select pid, waiting, extract(epoch from longest)::float8 as longest, words from breakwater.lock_waits()"
        ).map { row in
            LockWait(
                pid: try row["pid"].int(),
                waiting: try row["waiting"].int(),
                longest: try row["longest"].secondsOrNil() ?? .zero,
                words: try row["words"].string()
            )
        }
    }

    /// The error. If a lock or a statement timed out, the sessions that may have caused this are added.
    package func explained(_ error: PostgresError) async -> PostgresError {
        guard ["55P03", "57014"].contains(error.sqlState), let waits = try? await lockWaits(), !waits.isEmpty else {
            return error
        }
        var explained = error
        explained.detail = ([error.detail].compactMap(\.self) + waits.map(\.sentence)).joined(separator: "; ")
        return explained
    }
}
