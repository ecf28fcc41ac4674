package import Foundation
import Libpq

/// One row of `breakwater.pause`.
package struct Pause: Equatable, Sendable {
    /// `queue` or `kind`.
    package var scope: String
    package var name: String
    package var reason: String
    package var actor: String
    package var since: Date
}

/// A queue or a kind, which can be paused.
package enum PauseTarget: Equatable, Sendable {
    case queue(String)
    case kind(String)

    package var name: String {
        switch self {
        case .queue(let name), .kind(let name): name
        }
    }

    /// The target as part of a sentence: `queue 'bulk'`.
    package var description: String {
        switch self {
        case .queue(let name): "queue '\(name)'"
        case .kind(let name): "kind '\(name)'"
        }
    }
}

extension AdminDatabase {
    /// `breakwater.pause`: the queues and kinds that users have paused.
    package func pauses() async throws -> [Pause] {
        try await read(
            "select scope, name, reason, actor, since from breakwater.pause order by scope, name"
        ).map { row in
            Pause(
                scope: try row["scope"].string(),
                name: try row["name"].string(),
                reason: try row["reason"].string(),
                actor: try row["actor"].string(),
                since: try row["since"].date()
            )
        }
    }

    /// `breakwater.pause_queue` and `breakwater.pause_kind`.
    ///
    /// - Parameter actor: Who makes the change; nil for the database's user.
    package func pause(_ target: PauseTarget, reason: String, actor: String?) async throws {
        let parameters = [Parameter.text(target.name), .text(reason), .text(actor)]
        switch target {
        case .queue: _ = try await one("select breakwater.pause_queue($1, $2, coalesce($3, session_user))", parameters)
        case .kind: _ = try await one("select breakwater.pause_kind($1, $2, coalesce($3, session_user))", parameters)
        }
    }

    /// `breakwater.resume_queue` and `breakwater.resume_kind`. Returns false if the target was not paused.
    package func resume(_ target: PauseTarget, reason: String? = nil, actor: String? = nil) async throws -> Bool {
        let parameters = [Parameter.text(target.name), .text(reason), .text(actor)]
        let row =
            switch target {
            case .queue:
                try await one("select breakwater.resume_queue($1, $2, coalesce($3, session_user))", parameters)
            case .kind:
                try await one("select breakwater.resume_kind($1, $2, coalesce($3, session_user))", parameters)
            }
        return try row[0].bool()
    }

    /// Whether a worker claims from that queue or kind now, or did recently.
    package func isTaken(_ target: PauseTarget) async throws -> Bool {
        switch target {
        case .queue(let name):
            try await one("select exists (select from breakwater.worker where $1 = any (queues))", [.text(name)])[0]
                .bool()
        case .kind(let name):
            try await one("select exists (select from breakwater.worker where $1 = any (kinds))", [.text(name)])[0]
                .bool()
        }
    }
}
