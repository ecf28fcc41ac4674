package import Foundation
import Libpq

/// One line of `breakwater.audit`: something that a user did.
package struct AuditEntry: Equatable, Sendable {
    package var id: Int64
    package var at: Date
    package var actor: String
    /// Such as `circuit.open`.
    package var action: String
    package var target: String
    package var reason: String?
    /// JSON.
    package var details: String
    /// The session's user, who may differ from the actor.
    package var role: String
}

/// Which lines are looked for. All that is not nil must hold.
package struct AuditFilter: Equatable, Sendable {
    package var actor: String?
    package var action: String?
    package var target: String?

    package init() {}
}

extension AdminDatabase {
    /// `breakwater.audit`, the newest first.
    ///
    /// - Parameters:
    ///   - filter: Which.
    ///   - before: Only lines with a lower id; nil for all.
    ///   - limit: The most to return.
    package func audit(_ filter: AuditFilter = AuditFilter(), before: Int64? = nil, limit: Int) async throws
        -> [AuditEntry]
    {
        try await read(
            """
            select a.id, a.at, a.actor, a.action, a.target, a.reason, a.details, a.role
              from breakwater.audit a
             where ($1::bigint is null or a.id < $1) and ($2::text is null or a.actor = $2)
               and ($3::text is null or a.action = $3) and ($4::text is null or a.target = $4)
             order by a.id desc limit $5
            """,
            [.int8(before), .text(filter.actor), .text(filter.action), .text(filter.target), .int8(Int64(limit))]
        ).map { row in
            AuditEntry(
                id: try row["id"].int64(),
                at: try row["at"].date(),
                actor: try row["actor"].string(),
                action: try row["action"].string(),
                target: try row["target"].string(),
                reason: try row["reason"].stringOrNil(),
                details: try row["details"].string(),
                role: try row["role"].string()
            )
        }
    }
}
