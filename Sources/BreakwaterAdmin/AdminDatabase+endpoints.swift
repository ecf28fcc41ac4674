package import Foundation
package import Libpq

/// One row of `breakwater.endpoint_status`: an endpoint without its secrets.
package struct EndpointStatus: Equatable, Sendable {
    package var name: String
    /// The URL without its query.
    package var url: String
    /// How many keys sign its requests.
    package var secrets: Int
    /// The names of its headers.
    package var headers: [String]
    /// Its own rule; zero for never, nil for that of the handler.
    package var disableAfter: Duration?
    /// How many of its deliveries may run at once, and how many may start a second; nil for any number.
    package var concurrency: Int?
    package var rate: Double?
    package var burst: Int?
    /// The same in words; empty for any number.
    package var allows: String
    /// When, by whom and why it was disabled; nil while it is enabled.
    package var disabledAt: Date?
    package var disabledBy: String?
    package var disabledReason: String?
    /// The first and the latest failed delivery since one succeeded; nil if the last one succeeded.
    package var failingSince: Date?
    package var failedAt: Date?
    package var lastFailure: String?
    /// Its circuits that are not closed, such as `webhook.deliver: open`.
    package var circuits: [String]
    /// How many of its jobs wait behind its circuits, at most ``heldCap`` and one more.
    package var held: Int
    package var createdAt: Date
    package var updatedAt: Date

    /// Beyond this number, held jobs are not counted.
    package static let heldCap = 1000

    /// The state in a word.
    package var state: String { disabledAt != nil ? "disabled" : failingSince != nil ? "failing" : "enabled" }
}

/// A change of an endpoint. What is nil stays as it is.
package struct EndpointChange: Sendable {
    package var url: String?
    package var secrets: [String]?
    /// The headers as a JSON object.
    package var headers: String?
    package var disableAfter: Duration?
    /// How many deliveries may run at once; 0 for any number.
    package var concurrency: Int?
    /// How many deliveries may start in how many seconds; a count of 0 for any number.
    package var rate: (count: Double, seconds: Double)?
    /// How many may start at once after a pause.
    package var burst: Int?

    package init(
        url: String? = nil,
        secrets: [String]? = nil,
        headers: String? = nil,
        disableAfter: Duration? = nil
    ) {
        self.url = url
        self.secrets = secrets
        self.headers = headers
        self.disableAfter = disableAfter
    }
}

extension AdminDatabase {
    /// `breakwater.endpoint_status`, by name.
    ///
    /// - Parameters:
    ///   - text: Only endpoints whose name or URL contains this text; nil for all.
    ///   - after: Only endpoints whose name comes after this one; nil for the first.
    ///   - isTroubled: Only endpoints that are disabled or failing.
    ///   - limit: The most endpoints to return.
    package func endpoints(containing text: String? = nil, after: String? = nil, isTroubled: Bool = false, limit: Int)
        async throws -> [EndpointStatus]
    {
        try await read(
            """
            select \(Self.endpointColumns) from breakwater.endpoint_status e
             where ($1::text is null or strpos(lower(e.name), lower($1)) > 0 or strpos(lower(e.url), lower($1)) > 0)
               and ($2::text is null or e.name > $2 collate "C")
               and (not $3 or e.disabled_at is not null or e.failing_since is not null)
             order by e.name limit $4
            """,
            [.text(text), .text(after), .bool(isTroubled), .int8(Int64(limit))]
        ).map { try EndpointStatus($0) }
    }

    /// One endpoint; nil if there is none of this name.
    package func endpoint(_ name: String) async throws -> EndpointStatus? {
        try await read(
            "select \(Self.endpointColumns) from breakwater.endpoint_status e where e.name = $1 collate \"C\"",
            [.text(name)]
        ).first.map { try EndpointStatus($0) }
    }

    /// `breakwater.set_endpoint`. Returns whether the endpoint is new.
    package func setEndpoint(_ name: String, _ change: EndpointChange, reason: String?, actor: String?) async throws
        -> Bool
    {
        try await one(
            """
            select breakwater.set_endpoint(
                $1, $2, $3, $4, $5, $6, $7, make_interval(secs => $8), $9, $10, coalesce($11, session_user))
            """,
            [
                .text(name), .text(change.url), change.secrets.map { .textArray($0) } ?? .null,
                .jsonb(change.headers), .interval(change.disableAfter),
                .int4(change.concurrency.map { Int32(clamping: $0) }), .float8(change.rate?.count),
                .float8(change.rate?.seconds ?? 1), .int4(change.burst.map { Int32(clamping: $0) }), .text(reason),
                .text(actor),
            ]
        )[0].bool()
    }

    /// `breakwater.disable_endpoint`. Returns false if there is no such endpoint.
    package func disableEndpoint(_ name: String, reason: String, actor: String?) async throws -> Bool {
        try await one(
            "select breakwater.disable_endpoint($1, $2, coalesce($3, session_user))",
            [.text(name), .text(reason), .text(actor)]
        )[0].bool()
    }

    /// `breakwater.enable_endpoint`. Returns false if there is no such endpoint, or it is not disabled.
    package func enableEndpoint(_ name: String, reason: String?, actor: String?) async throws -> Bool {
        try await one(
            "select breakwater.enable_endpoint($1, $2, coalesce($3, session_user))",
            [.text(name), .text(reason), .text(actor)]
        )[0].bool()
    }

    /// `breakwater.remove_endpoint`. Returns false if there is no such endpoint.
    package func removeEndpoint(_ name: String, reason: String?, actor: String?) async throws -> Bool {
        try await one(
            "select breakwater.remove_endpoint($1, $2, coalesce($3, session_user))",
            [.text(name), .text(reason), .text(actor)]
        )[0].bool()
    }

    /// `breakwater.redeliver_endpoint`: puts back the oldest dead letters of an endpoint.
    ///
    /// - Parameters:
    ///   - name: The endpoint.
    ///   - age: Only those that died at most this long before `time`.
    ///   - time: Only those that died by then.
    ///   - limit: The most to put back.
    ///   - reason: The reason, for the audit log.
    ///   - actor: Who makes the change; nil for the database's user.
    /// - Returns: How many became jobs again; 0 when none are left.
    package func redeliver(
        to name: String,
        since age: Duration,
        before time: DatabaseTime,
        limit: Int,
        reason: String?,
        actor: String?
    ) async throws -> Int {
        try await one(
            """
            select breakwater.redeliver_endpoint(
                $1, $2::text::timestamptz - $3, $4, $5, coalesce($6, session_user), $2::text::timestamptz)
            """,
            [
                .text(name), .text(time.text), .interval(age), .int4(Int32(clamping: limit)), .text(reason),
                .text(actor),
            ]
        )[0].int()
    }

    /// Whether a dead letter exists; if it does, whether it is one of an endpoint.
    package func isDeadLetter(_ id: Int64, of name: String) async throws -> Bool? {
        try await read(
            """
            select exists (select from breakwater.endpoint_kind k
                            where k.kind = d.kind and breakwater.key_of(d.payload, k.path) = $2 collate "C") as is_of
              from breakwater.dead_letter d where d.id = $1
            """,
            [.int8(id), .text(name)]
        ).first.map { try $0["is_of"].bool() }
    }

    /// `breakwater.endpoint_kind`: the kinds whose jobs are sent to endpoints, with the path of the name.
    package func endpointKinds() async throws -> [(kind: String, path: [String])] {
        try await read("select kind, path from breakwater.endpoint_kind order by kind").map { row in
            (try row["kind"].string(), try row["path"].stringArray())
        }
    }

    private static let endpointColumns = """
        e.name, e.url, e.secrets, e.headers, extract(epoch from e.disable_after)::bigint as disable_after, e.concurrency, e.rate,
        e.burst, breakwater.limit_in_words(e.concurrency, e.rate) as allows, e.disabled_at, e.disabled_by, e.disabled_reason, e.failing_since, e.failed_at, e.last_failure, e.circuits, e.held, e.created_at,
        e.updated_at
        """
}

extension EndpointStatus {
    package init(_ row: Row) throws {
        self.init(
            name: try row["name"].string(),
            url: try row["url"].string(),
            secrets: try row["secrets"].int(),
            headers: try row["headers"].stringArray(),
            disableAfter: try row["disable_after"].int64OrNil().map { .seconds($0) },
            concurrency: try row["concurrency"].intOrNil(),
            rate: try row["rate"].doubleOrNil(),
            burst: try row["burst"].intOrNil(),
            allows: try row["allows"].string(),
            disabledAt: try row["disabled_at"].dateOrNil(),
            disabledBy: try row["disabled_by"].stringOrNil(),
            disabledReason: try row["disabled_reason"].stringOrNil(),
            failingSince: try row["failing_since"].dateOrNil(),
            failedAt: try row["failed_at"].dateOrNil(),
            lastFailure: try row["last_failure"].stringOrNil(),
            circuits: try row["circuits"].stringArray(),
            held: try row["held"].int(),
            createdAt: try row["created_at"].date(),
            updatedAt: try row["updated_at"].date()
        )
    }
}
