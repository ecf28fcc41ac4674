package import Foundation
import Libpq

/// The counts of one minute.
package struct MinuteRate: Equatable, Sendable {
    package var minute: Date
    package var succeeded: Int
    /// Failed calls, including those that will be retried.
    package var failed: Int
    package var slow: Int
    /// Jobs that became dead letters.
    package var died: Int
}

/// One row of `breakwater.backlog`: the jobs of a queue and a kind, counted up to ``AdminDatabase/countCap``.
package struct Backlog: Equatable, Sendable {
    package var queue: String
    package var kind: String
    package var ready: Int
    package var running: Int
    package var scheduled: Int
    package var retrying: Int
    /// Jobs that are parked because the circuit of their key is open.
    package var parked: Int
    /// Jobs that wait for others.
    package var dependent: Int
    /// How long the first ready job has waited.
    package var oldest: Duration?
    /// Whether a count stopped at the cap.
    package var isCapped: Bool
}

extension AdminDatabase {
    /// The cap at which counts stop, so that their time is bounded.
    package static let countCap = 10_000
    /// The most queues and kinds that ``backlog()`` names. Any client that can enqueue can create any number of them.
    package static let nameCap = 500

    /// `breakwater.rates`: the last `minutes` minutes, the current one last.
    ///
    /// - Parameter kind: The kind; nil for all.
    package func rates(minutes: Int, kind: String? = nil) async throws -> [MinuteRate] {
        try await read(
            "select minute, succeeded, failed, slow, died from breakwater.rates($1, $2)",
            [.int4(Int32(clamping: minutes)), .text(kind)]
        ).map { row in
            MinuteRate(
                minute: try row["minute"].date(),
                succeeded: try row["succeeded"].int(),
                failed: try row["failed"].int(),
                slow: try row["slow"].int(),
                died: try row["died"].int()
            )
        }
    }

    /// `breakwater.recent_call_counts`: how the calls of the last `seconds` seconds ended.
    package func recentCallCounts(seconds: Int) async throws -> (succeeded: Int, failed: Int) {
        let rows = try await read(
            "select succeeded, failed from breakwater.recent_call_counts($1)",
            [.int4(Int32(clamping: seconds))]
        )
        return try rows.first.map { (try $0["succeeded"].int(), try $0["failed"].int()) } ?? (0, 0)
    }

    /// `breakwater.backlog`.
    package func backlog() async throws -> [Backlog] {
        try await read(
            """
            select queue, kind, ready, running, scheduled, retrying, parked, dependent,
                   extract(epoch from oldest)::float8 as oldest, is_capped
              from breakwater.backlog($1, $2)
            """,
            [.int4(Int32(Self.countCap)), .int4(Int32(Self.nameCap))]
        ).map { row in
            Backlog(
                queue: try row["queue"].string(),
                kind: try row["kind"].string(),
                ready: try row["ready"].int(),
                running: try row["running"].int(),
                scheduled: try row["scheduled"].int(),
                retrying: try row["retrying"].int(),
                parked: try row["parked"].int(),
                dependent: try row["dependent"].int(),
                oldest: try row["oldest"].doubleOrNil().map { .seconds($0) },
                isCapped: try row["is_capped"].bool()
            )
        }
    }

    /// The time of the database's clock.
    package func now() async throws -> Date {
        guard let row = try await read("select now()").first else { return Date() }
        return try row[0].date()
    }
}
