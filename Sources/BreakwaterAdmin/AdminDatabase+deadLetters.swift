package import Foundation
package import Libpq

/// One row of `breakwater.dead_letter`.
package struct DeadLetter: Equatable {
    package var id: Int64
    package var queue: String
    package var kind: String
    package var priority: Int
    /// JSON.
    package var payload: String
    package var reason: String
    package var attempt: Int
    package var maxAttempts: Int?
    package var uniqueKey: String?
    /// A JSON list with one object for each failed run.
    package var errors: String
    /// The last error's name and message.
    package var lastError: String?
    package var enqueuedAt: Date
    package var diedAt: Date
}

/// Which dead letters are meant.
package struct DeadLetterFilter: Equatable {
    /// Nil for all.
    package var kind: String?
    /// Nil for any.
    package var reason: String?

    package init(kind: String? = nil, reason: String? = nil) {
        self.kind = kind
        self.reason = reason
    }
}

/// How many dead letters there are of a kind and a reason.
package struct DeadLetterCount: Equatable {
    package var kind: String
    package var reason: String
    package var count: Int
    package var newest: Date
}

extension AdminDatabase {
    /// Dead letters, the newest first.
    package func deadLetters(_ filter: DeadLetterFilter, limit: Int) async throws -> [DeadLetter] {
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
    package func deadLetter(id: Int64) async throws -> DeadLetter? {
        try await connection.query(
            "select \(Self.deadLetterColumns) from breakwater.dead_letter where id = $1",
            [.int8(id)]
        ).first.map(Self.deadLetter)
    }

    /// How many there are, by kind and reason.
    package func deadLetterCounts() async throws -> [DeadLetterCount] {
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
    package func redrive(id: Int64) async throws -> Bool {
        try await one("select breakwater.redrive($1)", [.int8(id)])[0].bool()
    }

    /// `breakwater.redrive`: puts the oldest back. Returns how many.
    package func redrive(_ filter: DeadLetterFilter, limit: Int) async throws -> Int {
        try await one(
            "select breakwater.redrive($1, $2, $3)",
            [.text(filter.kind), .text(filter.reason), .int4(Int32(clamping: limit))]
        )[0].int()
    }

    /// `breakwater.purge`: deletes one for good. False if it is not there.
    package func purge(id: Int64) async throws -> Bool {
        try await one("select breakwater.purge($1)", [.int8(id)])[0].bool()
    }

    /// `breakwater.purge`: deletes the oldest for good. Returns how many.
    package func purge(_ filter: DeadLetterFilter, olderThan age: Duration, limit: Int) async throws -> Int {
        try await one(
            "select breakwater.purge($1, $2, $3, $4)",
            [.text(filter.kind), .text(filter.reason), .interval(age), .int4(Int32(clamping: limit))]
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
