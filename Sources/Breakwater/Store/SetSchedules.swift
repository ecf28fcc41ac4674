import Foundation
package import Libpq

/// `breakwater.set_configured_schedules`: sets the schedules that a worker's configuration names.
package struct SetSchedules: StoreCall {
    /// The worker's name.
    package var worker: String
    package var schedules: [Schedule]

    package var statement: Statement {
        let rows = schedules.map(\.json).joined(separator: ",")
        return Statement("select breakwater.set_configured_schedules($1, $2)", [.text(worker), .jsonb("[\(rows)]")])
    }

    package func decode(_ result: QueryResult) throws(PostgresError) {}
}

extension Schedule {
    /// The settings as a JSON object with the names that they have in SQL.
    fileprivate var json: String {
        let settings = Settings(
            name: name,
            cron: { if case .cron(let cron) = times { cron } else { nil } }(),
            every: { if case .every(let interval) = times { "\(interval.components.seconds) seconds" } else { nil } }(),
            timeZone: timeZone,
            kind: kind,
            queue: queue,
            priority: priority,
            uniqueKey: uniqueKey,
            missed: missed.rawValue,
            missedAfter: "\(missedAfter.inSeconds) seconds",
            missedLimit: missedLimit,
            overlap: overlap.rawValue
        )
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        // Encoding numbers, strings and optionals of them cannot fail.
        let members = String(decoding: (try? encoder.encode(settings)) ?? Data("{}".utf8), as: UTF8.self)
        // The payload is JSON text already. No setting is left out, so there is always a member before it.
        return members.dropLast() + ",\"payload\":\(payload)}"
    }

    private struct Settings: Encodable {
        var name: String
        var cron: String?
        var every: String?
        var timeZone: String
        var kind: String
        var queue: String
        var priority: Int
        var uniqueKey: String?
        var missed: String
        var missedAfter: String
        var missedLimit: Int
        var overlap: String
    }
}
