package import Foundation
import Libpq

/// A row of `breakwater.limit_status`: a limit, the order of a kind's keys, or the shares of a kind's tenants.
package struct LimitStatus: Equatable, Sendable {
    package var name: String
    /// `limit`, `order` or `share`.
    package var type: String
    package var kinds: [String]
    /// The path of the key, such as `$.customer`; nil for one limit for all jobs.
    package var key: String?
    package var weight: String?
    package var concurrency: Int?
    /// Starts a second.
    package var rate: Double?
    package var burst: Int?
    package var onDead: String?
    /// What it allows, in words.
    package var allows: String
    /// How many values of the key have a limit of their own.
    package var keyLimits: Int
    /// How many jobs run under it, by their weights, and of how many keys.
    package var running: Int
    package var keysRunning: Int
    /// How many jobs it holds back, counted up to 10,000 for each kind.
    package var heldBack: Int
    /// How many ordered keys wait because one of their jobs died.
    package var haltedKeys: Int?
    /// Until when the dependency asked to wait.
    package var pausedUntil: Date?
    /// `configuration` or `operator`.
    package var source: String
    package var overridesConfiguration: Bool
    package var actor: String?
    package var reason: String?
    package var updatedAt: Date
}

/// The limit of one value of a limit's key: a row of `breakwater.key_limit`.
package struct KeyLimit: Equatable, Sendable {
    /// The value; empty for jobs without the key.
    package var value: String
    package var concurrency: Int?
    /// Starts a second.
    package var rate: Double?
    package var burst: Int?
    /// What it allows, in words.
    package var allows: String
    package var actor: String?
    package var reason: String?
    package var updatedAt: Date
}

/// The settings of a limit, as `breakwater.set_limit` takes them.
package struct LimitSettings: Sendable {
    package var concurrency: Int?
    /// How many starts in how many seconds.
    package var rate: (count: Double, seconds: Double)?
    package var burst: Int?
    package var key: String?
    /// The kinds that it applies to beside that of its name; nil leaves them as they are.
    package var kinds: [String]?
    package var weight: String?

    package init() {}
}

extension AdminDatabase {
    /// `breakwater.limit_status`, by name.
    ///
    /// - Parameter name: Only those of this name. Defaults to all.
    package func limits(named name: String? = nil) async throws -> [LimitStatus] {
        try await read(
            """
            select name, type, kinds, key, weight, concurrency, rate, burst, on_dead, allows, key_limits, running, keys_running,
                   held_back, halted_keys, paused_until, source, overrides_configuration, actor, reason, updated_at
              from breakwater.limit_status
             where $1::text is null or name = $1
             order by name, type
            """,
            [.text(name)]
        ).map { row in
            LimitStatus(
                name: try row["name"].string(),
                type: try row["type"].string(),
                kinds: try row["kinds"].stringArray(),
                key: try row["key"].stringOrNil(),
                weight: try row["weight"].stringOrNil(),
                concurrency: try row["concurrency"].intOrNil(),
                rate: try row["rate"].doubleOrNil(),
                burst: try row["burst"].intOrNil(),
                onDead: try row["on_dead"].stringOrNil(),
                allows: try row["allows"].string(),
                keyLimits: try row["key_limits"].int(),
                running: try row["running"].int(),
                keysRunning: try row["keys_running"].int(),
                heldBack: try row["held_back"].int(),
                haltedKeys: try row["halted_keys"].intOrNil(),
                pausedUntil: try row["paused_until"].dateOrNil(),
                source: try row["source"].string(),
                overridesConfiguration: try row["overrides_configuration"].bool(),
                actor: try row["actor"].stringOrNil(),
                reason: try row["reason"].stringOrNil(),
                updatedAt: try row["updated_at"].date()
            )
        }
    }

    /// `breakwater.set_limit`.
    ///
    /// - Parameter actor: Who makes the change; nil for the database's user.
    package func setLimit(_ name: String, _ settings: LimitSettings, reason: String?, actor: String?) async throws {
        _ = try await one(
            """
            select breakwater.set_limit($1, $2, $3, make_interval(secs => $4), $5, $6, $7::text[], $8, $9,
                                        coalesce($10, session_user))
            """,
            [
                .text(name), .int4(settings.concurrency.map { Int32(clamping: $0) }), .float8(settings.rate?.count),
                .float8(settings.rate?.seconds ?? 1), .int4(settings.burst.map { Int32(clamping: $0) }),
                .text(settings.key), settings.kinds.map { .textArray($0) } ?? .text(nil), .text(settings.weight),
                .text(reason), .text(actor),
            ]
        )
    }

    /// `breakwater.key_limit`: the values of a limit's key that have a limit of their own.
    package func keyLimits(of name: String, limit: Int) async throws -> [KeyLimit] {
        try await read(
            """
            select key, concurrency, rate, burst, breakwater.limit_in_words(concurrency, rate) as allows, actor,
                   reason, updated_at
              from breakwater.key_limit where name = $1 order by key limit $2
            """,
            [.text(name), .int8(Int64(limit))]
        ).map { row in
            KeyLimit(
                value: try row["key"].string(),
                concurrency: try row["concurrency"].intOrNil(),
                rate: try row["rate"].doubleOrNil(),
                burst: try row["burst"].intOrNil(),
                allows: try row["allows"].string(),
                actor: try row["actor"].stringOrNil(),
                reason: try row["reason"].stringOrNil(),
                updatedAt: try row["updated_at"].date()
            )
        }
    }

    /// `breakwater.set_key_limit`: only the concurrency, the rate and the burst of the settings are used.
    package func setKeyLimit(
        _ name: String,
        _ value: String,
        _ settings: LimitSettings,
        reason: String?,
        actor: String?
    ) async throws {
        _ = try await one(
            """
            select breakwater.set_key_limit($1, $2, $3, $4, make_interval(secs => $5), $6, $7,
                                            coalesce($8, session_user))
            """,
            [
                .text(name), .text(value), .int4(settings.concurrency.map { Int32(clamping: $0) }),
                .float8(settings.rate?.count), .float8(settings.rate?.seconds ?? 1),
                .int4(settings.burst.map { Int32(clamping: $0) }), .text(reason), .text(actor),
            ]
        )
    }

    /// `breakwater.remove_key_limit`. Returns false if there is none.
    package func removeKeyLimit(_ name: String, _ value: String, reason: String?, actor: String?) async throws -> Bool {
        try await one(
            "select breakwater.remove_key_limit($1, $2, $3, coalesce($4, session_user))",
            [.text(name), .text(value), .text(reason), .text(actor)]
        )[0].bool()
    }

    /// `breakwater.remove_limit`.
    ///
    /// - Parameter actor: Who makes the change; nil for the database's user.
    /// - Returns: Whether there was such a limit.
    package func removeLimit(_ name: String, reason: String?, actor: String?) async throws -> Bool {
        try await one(
            "select breakwater.remove_limit($1, $2, coalesce($3, session_user))",
            [.text(name), .text(reason), .text(actor)]
        )[0].bool()
    }

    /// `breakwater.set_share_weight`; a nil weight removes it.
    package func setShareWeight(
        _ kind: String,
        _ tenant: String,
        _ weight: Double?,
        reason: String?,
        actor: String?
    ) async throws {
        _ = try await one(
            "select breakwater.set_share_weight($1, $2, $3, $4, coalesce($5, session_user))",
            [.text(kind), .text(tenant), .float8(weight), .text(reason), .text(actor)]
        )
    }
}
