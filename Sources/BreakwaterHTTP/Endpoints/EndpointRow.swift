import Breakwater
import Foundation
package import Libpq

/// A row of `breakwater.endpoint`, as a worker reads it.
package final class EndpointRow: Sendable {
    package let name: String
    let url: String
    /// Each of these keys signs each request.
    let secrets: [String]
    let headers: [String: String]
    /// Why the endpoint is disabled; nil if it is enabled.
    let disabledReason: String?
    /// Whether its last delivery failed, as far as workers have reported.
    let isFailing: Bool

    init(
        name: String,
        url: String,
        secrets: [String],
        headers: [String: String],
        disabledReason: String?,
        isFailing: Bool
    ) {
        self.name = name
        self.url = url
        self.secrets = secrets
        self.headers = headers
        self.disabledReason = disabledReason
        self.isFailing = isFailing
    }

    /// Whether requests to both go to the same place, with the same headers and keys.
    func hasSameDestination(as other: EndpointRow) -> Bool {
        url == other.url && secrets == other.secrets && headers == other.headers
    }
}

/// `breakwater.endpoints_named`: the endpoints of these names. Names that no endpoint has are left out.
package struct EndpointsNamed: StoreCall {
    package var names: [String]

    package var statement: Statement {
        Statement(
            "select name, url, secrets, headers::text, disabled_reason, is_failing from breakwater.endpoints_named($1)",
            [.textArray(names)]
        )
    }

    package func decode(_ result: QueryResult) throws(PostgresError) -> [EndpointRow] {
        var rows: [EndpointRow] = []
        for row in result {
            let headers = try row[3].string()
            rows.append(
                EndpointRow(
                    name: try row[0].string(),
                    url: try row[1].string(),
                    secrets: try row[2].stringArray(),
                    // Only texts can be set. A header that a user wrote as something else by hand is left out.
                    headers: Self.texts(headers),
                    disabledReason: try row[4].stringOrNil(),
                    isFailing: try row[5].bool()
                )
            )
        }
        return rows
    }

    private static func texts(_ json: String) -> [String: String] {
        (try? JSONDecoder().decode([String: String].self, from: Data(json.utf8))) ?? [:]
    }
}

/// `breakwater.register_endpoint_kinds`: the kinds whose jobs are sent to endpoints. Returns whether the handlers of all
/// of them are registered, so that their disabled endpoints are held.
package struct RegisterEndpointKinds: StoreCall {
    /// A kind, with the path of the endpoint's name in its payloads.
    package struct Kind: Encodable, Equatable, Sendable {
        var kind: String
        var path: [String]
        /// In seconds; nil for never.
        var disableAfter: Double?
        var whenDisabled: String

        private enum CodingKeys: String, CodingKey {
            case kind, path
            case disableAfter = "disable_after"
            case whenDisabled = "when_disabled"
        }
    }

    package var kinds: [Kind]

    package var statement: Statement {
        Statement("select breakwater.register_endpoint_kinds($1)", [.jsonb(kinds.jsonText)])
    }

    package func decode(_ result: QueryResult) throws(PostgresError) -> Bool { try result.row(0)[0].bool() }
}

/// `breakwater.record_endpoint_calls`: how deliveries ended. Returns the names of the endpoints that it disabled.
package struct RecordEndpointCalls: StoreCall {
    package var calls: [EndpointCalls.Call]

    package var statement: Statement {
        Statement("select breakwater.record_endpoint_calls($1)", [.jsonb(calls.jsonText)])
    }

    package func decode(_ result: QueryResult) throws(PostgresError) -> [String] {
        try result.row(0)[0].stringArray()
    }
}

extension Encodable {
    /// The value as JSON. Only values that can be encoded are passed.
    fileprivate var jsonText: String {
        (try? JSONEncoder().encode(self)).map { String(decoding: $0, as: UTF8.self) } ?? "[]"
    }
}
