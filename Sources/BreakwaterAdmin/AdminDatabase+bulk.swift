package import Foundation
import Libpq

/// Dead letters with the same cause: one kind, and the same error except for numbers and identifiers.
package struct DeadLetterGroup: Equatable, Sendable {
    package var kind: String
    /// The name and the message of the last error, with `#` in place of numbers and identifiers.
    package var failure: String
    package var count: Int
    /// Whether `count` is only a lower bound: counting stops at ``AdminDatabase/countCap``, or earlier if there are
    /// many groups.
    package var isCapped: Bool
    package var oldest: Date
    package var newest: Date
    /// The id of the newest dead letter of the group.
    package var example: Int64
}

/// Selects dead letters. Every condition that is not nil must hold.
package struct DeadLetterChoice: Equatable, Sendable {
    package var ids: [Int64]?
    package var kind: String?
    package var reason: String?
    /// The cause, as in ``DeadLetterGroup/failure``.
    package var failure: String?
    /// Only dead letters that died until then are selected, so that a run does not select the failures that it causes
    /// itself.
    package var diedUntil: Date?

    package init() {}

    fileprivate var parameters: [Parameter] {
        [ids.map { .int8Array($0) } ?? .null, .text(kind), .text(reason), .text(failure), .timestamptz(diedUntil)]
    }
}

/// A change to many dead letters.
package enum BulkAction: String, Sendable, CaseIterable {
    case redrive, purge
}

/// The result of one portion.
package struct BulkPortion: Equatable, Sendable {
    package var picked: Int
    package var done: Int
    /// The id of the run's row in the audit log, for the next portion.
    package var audit: Int64
}

extension AdminDatabase {
    /// `breakwater.dead_letter_groups`, by kind and failure.
    package func deadLetterGroups(kind: String?, limit: Int) async throws -> [DeadLetterGroup] {
        try await read(
            """
            select kind, failure, letters, oldest, newest, example, is_capped
              from breakwater.dead_letter_groups($1, $2, $3)
            """,
            [.text(kind), .int4(Int32(Self.countCap)), .int4(Int32(clamping: limit))]
        ).map(Self.deadLetterGroup)
    }

    /// `breakwater.latest_failures`: the causes of the last thousand dead letters, the newest first.
    package func latestFailures(limit: Int) async throws -> [DeadLetterGroup] {
        try await read(
            """
            select kind, failure, letters, oldest, newest, example, is_capped
              from breakwater.latest_failures(1000, $1, $2)
            """,
            [.int4(Int32(Self.countCap)), .int4(Int32(clamping: limit))]
        ).map(Self.deadLetterGroup)
    }

    private static func deadLetterGroup(_ row: Row) throws -> DeadLetterGroup {
        DeadLetterGroup(
            kind: try row["kind"].string(),
            failure: try row["failure"].string(),
            count: try row["letters"].int(),
            isCapped: try row["is_capped"].bool(),
            oldest: try row["oldest"].date(),
            newest: try row["newest"].date(),
            example: try row["example"].int64()
        )
    }

    /// The newest of the selected dead letters.
    ///
    /// - Parameters:
    ///   - before: Only dead letters that died before this time, or at this time with a lower id, are returned; nil for
    ///     all.
    ///   - limit: The most dead letters to return.
    package func deadLetters(
        _ choice: DeadLetterChoice,
        before: (diedAt: Date, id: Int64)? = nil,
        limit: Int
    ) async throws -> [DeadLetter] {
        var conditions = ["true"]
        var parameters: [Parameter] = [.int8(Int64(limit))]
        func add(_ condition: String, _ parameter: Parameter) {
            parameters.append(parameter)
            conditions.append(condition.replacing("?", with: "$\(parameters.count)"))
        }
        // Only the given conditions are part of the query, so that each combination has its own plan.
        if let ids = choice.ids { add("id = any (?)", .int8Array(ids)) }
        if let kind = choice.kind { add("kind = ?", .text(kind)) }
        if let reason = choice.reason { add("reason = ?", .text(reason)) }
        if let failure = choice.failure { add("failure = ?", .text(failure)) }
        if let before {
            parameters += [.timestamptz(before.diedAt), .int8(before.id)]
            conditions.append("(died_at, id) < ($\(parameters.count - 1), $\(parameters.count))")
        }
        return try await read(
            """
            select \(Self.deadLetterListColumns) from breakwater.dead_letter
             where \(conditions.joined(separator: " and ")) order by died_at desc, id desc limit $1
            """,
            parameters
        ).map(Self.deadLetter)
    }

    /// `breakwater.count_dead_letters`: how many dead letters match, counted up to a cap.
    package func countDeadLetters(_ choice: DeadLetterChoice, cap: Int) async throws -> Int {
        let rows = try await read(
            "select breakwater.count_dead_letters($1, $2, $3, $4, $5, $6)",
            choice.parameters + [.int4(Int32(clamping: cap))]
        )
        return try rows.first?[0].int() ?? 0
    }

    /// `breakwater.redrive_some` and `breakwater.purge_some`: changes the oldest of the selected dead letters.
    package func apply(
        _ action: BulkAction,
        to choice: DeadLetterChoice,
        limit: Int,
        reason: String?,
        actor: String,
        audit: Int64? = nil
    ) async throws -> BulkPortion {
        let function =
            switch action {
            case .redrive: "redrive_some"
            case .purge: "purge_some"
            }
        let row = try await one(
            "select picked, done, audit from breakwater.\(function)($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            choice.parameters + [.int4(Int32(clamping: limit)), .text(reason), .text(actor), .int8(audit)]
        )
        return BulkPortion(
            picked: try row["picked"].int(),
            done: try row["done"].int(),
            audit: try row["audit"].int64()
        )
    }
}
