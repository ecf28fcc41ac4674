package import Foundation
import Libpq

/// One row of `breakwater.audit`: an action of a user.
package struct AuditEntry: Equatable, Sendable {
    package var id: Int64
    package var at: Date
    package var actor: String
    /// The action, such as `circuit.open`.
    package var action: String
    package var target: String
    package var reason: String?
    /// JSON.
    package var details: String
    /// The database user of the session, who may differ from the actor.
    package var role: String
}

/// Selects rows. Every condition that is not nil must hold.
package struct AuditFilter: Equatable, Sendable {
    package var actor: String?
    package var action: String?
    /// The beginning of the action, such as `circuit.`.
    package var actionPrefix: String?
    package var target: String?

    package init() {}
}

extension AdminDatabase {
    /// `breakwater.audit`, the newest first.
    ///
    /// - Parameters:
    ///   - filter: The rows to return.
    ///   - before: Only rows with a lower id are returned; nil for all.
    ///   - limit: The most rows to return.
    package func audit(_ filter: AuditFilter = AuditFilter(), before: Int64? = nil, limit: Int) async throws
        -> [AuditEntry]
    {
        try await read(
            """
            select a.id, a.at, a.actor, a.action, a.target, a.reason, a.details, a.role
              from breakwater.audit a
             where ($1::bigint is null or a.id < $1) and ($2::text is null or a.actor = $2)
               and ($3::text is null or a.action = $3) and ($4::text is null or a.target = $4)
               and ($5::text is null or starts_with(a.action, $5))
             order by a.id desc limit $6
            """,
            [
                .int8(before), .text(filter.actor), .text(filter.action), .text(filter.target),
                .text(filter.actionPrefix), .int8(Int64(limit)),
            ]
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
