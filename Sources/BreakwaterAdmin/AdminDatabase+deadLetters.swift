package import Foundation
import Libpq

/// One row of `breakwater.dead_letter`.
package struct DeadLetter: Equatable, Sendable {
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

/// Selects dead letters.
package struct DeadLetterFilter: Equatable, Sendable {
    /// The kind; nil for all.
    package var kind: String?
    /// The reason; nil for any.
    package var reason: String?

    /// An incident, whose dead letters are those of its circuit that died during it; nil for all.
    package var incident: Int64?

    package init(kind: String? = nil, reason: String? = nil, incident: Int64? = nil) {
        self.kind = kind
        self.reason = reason
        self.incident = incident
    }
}

/// The number of dead letters of a kind and a reason.
package struct DeadLetterCount: Equatable, Sendable {
    package var kind: String
    package var reason: String
    package var count: Int
    package var newest: Date
}

/// A time by the database's clock, as the database's text, so that no precision is lost when it is sent back.
package struct DatabaseTime: Equatable, Sendable {
    package var text: String

    package init(text: String) { self.text = text }
}

/// Some dead letters that are changed in portions, each in its own transaction.
package struct DeadLetterPortions: Sendable {
    package var filter: DeadLetterFilter
    /// The time by which the dead letters must have died.
    package var diedBy: DatabaseTime
    /// The reason, for the audit log.
    package var reason: String?
    /// Who makes the change; nil for the database's user.
    package var actor: String?
    /// The id of the row in the audit log, once it is written.
    package var audit: Int64?

    package init(filter: DeadLetterFilter, diedBy: DatabaseTime, reason: String? = nil, actor: String? = nil) {
        self.filter = filter
        self.diedBy = diedBy
        self.reason = reason
        self.actor = actor
    }
}

extension AdminDatabase {
    /// Dead letters, the newest first. Large payloads are left out.
    package func deadLetters(_ filter: DeadLetterFilter, limit: Int) async throws -> [DeadLetter] {
        try await read(
            """
            select \(Self.deadLetterListColumns) from \(Self.deadLetters(of: filter))
             where ($1::text is null or kind = $1) and ($2::text is null or reason = $2)
               and ($3::bigint is null or $3 > 0)
             order by died_at desc, id desc limit $4
            """,
            [.text(filter.kind), .text(filter.reason), .int8(filter.incident), .int8(Int64(limit))]
        ).map(Self.deadLetter)
    }

    /// One dead letter; nil if it does not exist.
    package func deadLetter(id: Int64) async throws -> DeadLetter? {
        try await read(
            "select \(Self.deadLetterColumns) from breakwater.dead_letter where id = $1",
            [.int8(id)]
        ).first.map(Self.deadLetter)
    }

    /// The number of dead letters by kind and reason.
    package func deadLetterCounts() async throws -> [DeadLetterCount] {
        try await read(
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

    /// `breakwater.redrive`: puts a dead letter back as a job. Returns false if it does not exist.
    ///
    /// - Parameter payload: The job's payload as JSON; nil for the payload that it had.
    package func redrive(
        id: Int64,
        payload: String? = nil,
        reason: String? = nil,
        actor: String? = nil
    ) async throws -> Bool {
        try await one(
            "select breakwater.redrive($1, $2, coalesce($3, session_user), $4)",
            [.int8(id), .text(reason), .text(actor), .jsonb(payload)]
        )[0].bool()
    }

    /// The number of dead letters that died by now, or at least a given time ago.
    ///
    /// - Returns: The time by which they died, and their number.
    package func countDeadLetters(
        _ filter: DeadLetterFilter,
        olderThan age: Duration
    ) async throws -> (diedBy: DatabaseTime, count: Int) {
        let row = try await one(
            """
            select (now() - $4)::text as died_by, count(*) as count from \(Self.deadLetters(of: filter))
             where ($1::text is null or kind = $1) and ($2::text is null or reason = $2)
               and ($3::bigint is null or $3 > 0) and died_at <= now() - $4
            """,
            [.text(filter.kind), .text(filter.reason), .int8(filter.incident), .interval(age)],
            timeout: .seconds(300)
        )
        return (DatabaseTime(text: try row["died_by"].string()), try row["count"].int())
    }

    /// The current time, for changes in portions.
    package func databaseTime() async throws -> DatabaseTime {
        DatabaseTime(text: try await one("select now()::text")[0].string())
    }

    /// `breakwater.redrive_some`: puts the oldest of some dead letters back.
    ///
    /// - Parameters:
    ///   - some: The dead letters, and who makes the change. The value is passed on from portion to portion.
    ///   - limit: The most dead letters to put back.
    /// - Returns: How many were put back; 0 when none are left.
    package func redrive(_ some: inout DeadLetterPortions, limit: Int) async throws -> Int {
        try await change(&some, by: "redrive_some", limit: limit)
    }

    /// `breakwater.purge_some`: deletes the oldest of some dead letters permanently, with the same parameters and
    /// result.
    package func purge(_ some: inout DeadLetterPortions, limit: Int) async throws -> Int {
        try await change(&some, by: "purge_some", limit: limit)
    }

    private func change(_ some: inout DeadLetterPortions, by function: String, limit: Int) async throws -> Int {
        let row = try await one(
            """
            select done, audit
              from breakwater.\(function)(
                   null, $1, $2, null, $3::text::timestamptz, $4, $5, coalesce($6, session_user), $7, $8)
            """,
            [
                .text(some.filter.kind), .text(some.filter.reason), .text(some.diedBy.text),
                .int4(Int32(clamping: limit)),
                .text(some.reason), .text(some.actor), .int8(some.audit), .int8(some.filter.incident),
            ],
            timeout: .seconds(300)
        )
        some.audit = try row["audit"].int64()
        return try row["done"].int()
    }

    /// `breakwater.purge`: deletes a dead letter permanently. Returns false if it does not exist.
    package func purge(id: Int64, reason: String? = nil, actor: String? = nil) async throws -> Bool {
        try await one(
            "select breakwater.purge($1, $2, coalesce($3, session_user))",
            [.int8(id), .text(reason), .text(actor)]
        )[0].bool()
    }

    /// The table or function with the dead letters of a filter. The incident is the query's third parameter.
    private static func deadLetters(of filter: DeadLetterFilter) -> String {
        filter.incident == nil ? "breakwater.dead_letter" : "breakwater.dead_letters_of_incident($3)"
    }

    static let deadLetterColumns = deadLetterColumns(payload: "payload")

    /// The columns for lists. A payload above 8 kB is replaced by null, so that no list loads hundreds of large
    /// payloads.
    static let deadLetterListColumns = deadLetterColumns(
        payload: "case when pg_column_size(payload) <= 8000 then payload else 'null' end as payload"
    )

    private static func deadLetterColumns(payload: String) -> String {
        """
        id, queue, kind, priority, \(payload), reason, attempt, max_attempts, unique_key, errors,
        errors -> -1 ->> 'name' as last_name, errors -> -1 ->> 'message' as last_message, enqueued_at, died_at
        """
    }

    static func deadLetter(_ row: Row) throws -> DeadLetter {
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
