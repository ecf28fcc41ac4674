import BreakwaterTesting
import Libpq

/// Schedules in a test's database, whose clock the test sets. Times are texts such as `12:00:30` on 2030-01-01, or whole
/// timestamps.
struct Schedules: Sendable {
    let database: TestDatabase

    /// The time as SQL reads it.
    private func moment(_ time: String) -> String { time.contains("-") ? time : "2030-01-01 \(time)Z" }

    /// Runs a statement at a time.
    @discardableResult
    func query(
        at time: String,
        _ sql: String,
        _ parameters: [Parameter] = [],
        on connection: Connection? = nil
    ) async throws -> QueryResult {
        let clock = Statement("select set_config('breakwater.clock', $1, true)", [.text(moment(time))])
        return try await (connection ?? database.connection).pipeline([clock, Statement(sql, parameters)])[1]
    }

    /// Sets a schedule at a time.
    func set(at time: String, _ arguments: String) async throws {
        try await query(at: time, "select breakwater.set_schedule(\(arguments))")
    }

    /// Deals with the slots that are due at a time, as the leader does. Returns how many there were.
    @discardableResult
    func run(at time: String, on connection: Connection? = nil) async throws -> Int {
        try await query(at: time, "select breakwater.run_schedules(1000)", on: connection)[0][0].int()
    }

    /// The slots of all jobs, in order.
    func jobs(_ kind: String = "k") async throws -> [String] {
        try await database.texts(
            "select payload #>> '{schedule,slot}' from breakwater.job where kind = $1 order by id",
            [.text(kind)]
        )
    }

    /// A column of a schedule.
    func value(_ column: String, of name: String = "s") async throws -> String {
        try await database.text(
            "select (\(column))::text from breakwater.schedule where name = $1",
            [.text(name)]
        )
    }

    /// The actions in the audit log, in order.
    func audit() async throws -> [String] {
        try await database.texts(
            "select concat_ws('|', actor, action, target, reason, details) from breakwater.audit order by id"
        )
    }

    /// The state of a schedule and the reason, at a time.
    func status(at time: String, of name: String = "s") async throws -> (state: String, why: String) {
        let row = try await query(
            at: time,
            "select state, why from breakwater.schedule_status where name = $1",
            [.text(name)]
        )[0]
        return (try row[0].string(), try row[1].string())
    }
}

/// Runs a test of schedules with a separate database.
func withSchedules(_ body: (Schedules) async throws -> Void) async throws {
    try await withTestDatabase { try await body(Schedules(database: $0)) }
}
