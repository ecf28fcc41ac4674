package import Foundation
import Libpq

/// Dead letters with the same cause: one kind, and the same error except for numbers and identifiers.
package struct DeadLetterGroup: Equatable, Sendable {
    package var kind: String
    /// The name and the message of the last error, with `#` for what differs.
    package var failure: String
    package var count: Int
    /// Whether `count` is only a lower bound: counting stops at ``AdminDatabase/countCap``, or earlier if there are
    /// many groups.
    package var isCapped: Bool
    package var oldest: Date
    package var newest: Date
    /// One of them, the newest.
    package var example: Int64
}

/// Which dead letters something is done to. All that is not nil must hold.
package struct DeadLetterChoice: Equatable, Sendable {
    package var ids: [Int64]?
    package var kind: String?
    package var reason: String?
    /// As in ``DeadLetterGroup/failure``.
    package var failure: String?
    /// Those that died later are left: a run does not chase its own failures.
    package var diedUntil: Date?

    package init() {}

    fileprivate var parameters: [Parameter] {
        [ids.map { .int8Array($0) } ?? .null, .text(kind), .text(reason), .text(failure), .timestamptz(diedUntil)]
    }
}

/// What is done to many dead letters.
package enum BulkAction: String, Sendable, CaseIterable {
    case redrive, purge
}

/// The result of one portion.
package struct BulkPortion: Equatable, Sendable {
    package var picked: Int
    package var done: Int
    /// The run's line in the audit log, for the next portion.
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

    /// The newest of the chosen dead letters.
    ///
    /// - Parameters:
    ///   - before: Only those that died before this, or then with a lower id; nil for all.
    ///   - limit: The most to return.
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
        // Only the conditions that hold, so that each combination has a plan of its own.
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

    /// `breakwater.redrive_some` and `breakwater.purge_some`: the oldest of the chosen ones.
    package func apply(
        _ action: BulkAction,
        to choice: DeadLetterChoice,
        limit: Int,
        why: String?,
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
            choice.parameters + [.int4(Int32(clamping: limit)), .text(why), .text(actor), .int8(audit)]
        )
        return BulkPortion(
            picked: try row["picked"].int(),
            done: try row["done"].int(),
            audit: try row["audit"].int64()
        )
    }
}
