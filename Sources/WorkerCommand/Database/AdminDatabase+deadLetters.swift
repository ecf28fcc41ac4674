import Foundation
import Libpq

/// One row of `breakwater.dead_letter`.
struct DeadLetter: Equatable {
    var id: Int64
    var queue: String
    var kind: String
    var priority: Int
    /// JSON.
    var payload: String
    var reason: String
    var attempt: Int
    var maxAttempts: Int?
    var uniqueKey: String?
    /// A JSON list with one object for each failed run.
    var errors: String
    /// The last error's name and message.
    var lastError: String?
    var enqueuedAt: Date
    var diedAt: Date
}

/// Which dead letters are meant.
struct DeadLetterFilter: Equatable {
    /// Nil for all.
    var kind: String?
    /// Nil for any.
    var reason: String?
}

/// How many dead letters there are of a kind and a reason.
struct DeadLetterCount: Equatable {
    var kind: String
    var reason: String
    var count: Int
    var newest: Date
}

/// A time by the database's clock, in its own words, so that no digit is lost on the way there and back.
struct DatabaseTime: Equatable, Sendable {
    var text: String
}

extension AdminDatabase {
    /// Dead letters, the newest first.
    func deadLetters(_ filter: DeadLetterFilter, limit: Int) async throws -> [DeadLetter] {
        try await connection.query(
            """
            select \(Self.deadLetterColumns) from breakwater.dead_letter
             where ($1::text is null or kind = $1) and ($2::text is null or reason = $2)
             order by died_at desc, id desc limit $3
            """,
            [.text(filter.kind), .text(filter.reason), .int8(Int64(limit))]
        ).map(Self.deadLetter)
    }

    /// One dead letter; nil if it is not there.
    func deadLetter(id: Int64) async throws -> DeadLetter? {
        try await connection.query(
            "select \(Self.deadLetterColumns) from breakwater.dead_letter where id = $1",
            [.int8(id)]
        ).first.map(Self.deadLetter)
    }

    /// How many there are, by kind and reason.
    func deadLetterCounts() async throws -> [DeadLetterCount] {
        try await connection.query(
            """
            select kind, reason, count(*) as count, max(died_at) as newest
              from breakwater.dead_letter group by kind, reason order by kind, reason
            """
        ).map { row in
            DeadLetterCount(
                kind: try row["kind"].string(),
                reason: try row["reason"].string(),
                count: try row["count"].int(),
                newest: try row["newest"].date()
            )
        }
    }

    /// `breakwater.redrive`: puts one back as a job. False if it is not there.
    func redrive(id: Int64) async throws -> Bool {
        try await one("select breakwater.redrive($1)", [.int8(id)])[0].bool()
    }

    /// How many dead letters there are that died by now, or at least so long ago.
    ///
    /// - Returns: The time by which they died, and how many they are.
    func countDeadLetters(
        _ filter: DeadLetterFilter,
        olderThan age: Duration
    ) async throws -> (diedBy: DatabaseTime, count: Int) {
        let row = try await one(
            """
            select (now() - $3)::text as died_by, count(*) as count from breakwater.dead_letter
             where ($1::text is null or kind = $1) and ($2::text is null or reason = $2) and died_at <= now() - $3
            """,
            [.text(filter.kind), .text(filter.reason), .interval(age)],
            timeout: .seconds(300)
        )
        return (DatabaseTime(text: try row["died_by"].string()), try row["count"].int())
    }

    /// `breakwater.redrive`: puts the oldest back, of those that died by a time. Returns how many.
    func redrive(_ filter: DeadLetterFilter, diedBy: DatabaseTime, limit: Int) async throws -> Int {
        try await one(
            "select breakwater.redrive($1, $2, $3, $4::text::timestamptz)",
            [.text(filter.kind), .text(filter.reason), .int4(Int32(clamping: limit)), .text(diedBy.text)],
            timeout: .seconds(300)
        )[0].int()
    }

    /// `breakwater.purge`: deletes one for good. False if it is not there.
    func purge(id: Int64) async throws -> Bool {
        try await one("select breakwater.purge($1)", [.int8(id)])[0].bool()
    }

    /// `breakwater.purge`: deletes the oldest for good, of those that died by a time. Returns how many.
    func purge(_ filter: DeadLetterFilter, diedBy: DatabaseTime, limit: Int) async throws -> Int {
        try await one(
            "select breakwater.purge($1, $2, now() - $3::text::timestamptz, $4)",
            [.text(filter.kind), .text(filter.reason), .text(diedBy.text), .int4(Int32(clamping: limit))],
            timeout: .seconds(300)
        )[0].int()
    }

    private static let deadLetterColumns = """
        id, queue, kind, priority, payload, reason, attempt, max_attempts, unique_key, errors,
        errors -> -1 ->> 'name' as last_name, errors -> -1 ->> 'message' as last_message, enqueued_at, died_at
        """

    private static func deadLetter(_ row: Row) throws -> DeadLetter {
        let last = [try row["last_name"].stringOrNil(), try row["last_message"].stringOrNil()].compactMap(\.self)
        return DeadLetter(
            id: try row["id"].int64(),
            queue: try row["queue"].string(),
            kind: try row["kind"].string(),
            priority: try row["priority"].int(),
            payload: try row["payload"].string(),
            reason: try row["reason"].string(),
            attempt: try row["attempt"].int(),
            maxAttempts: try row["max_attempts"].intOrNil(),
            uniqueKey: try row["unique_key"].stringOrNil(),
            errors: try row["errors"].string(),
            lastError: last.isEmpty ? nil : last.joined(separator: ": "),
            enqueuedAt: try row["enqueued_at"].date(),
            diedAt: try row["died_at"].date()
        )
    }
}
