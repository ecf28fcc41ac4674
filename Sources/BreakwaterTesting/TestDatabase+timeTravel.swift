import Breakwater
import Libpq

extension TestDatabase {
    /// Makes everything in the database that waits for a time wait that much less, as if the time had passed.
    ///
    /// ```swift
    /// try await database.travel(by: .seconds(3600))
    /// try await waitUntil("the job runs again") { try await database.count("job") == 0 }
    /// ```
    ///
    /// This concerns retries, scheduled jobs, the age of jobs, the slots of schedules, the open times, the overrides and
    /// the probes of circuits, suspensions, rates, and results that are kept. The database's clock stays as it is: new
    /// times, the lease of workers and the calls in the circuits' windows are not affected. Running workers notice
    /// within a second or two.
    ///
    /// - Parameter duration: How much time passes; more than zero.
    /// - Throws: `PostgresError`; ``BreakwaterTestingError`` if the duration is not positive.
    public func travel(by duration: Duration) async throws {
        guard duration > .zero else {
            throw BreakwaterTestingError("time travel goes forward only, not by \(duration)")
        }
        let columns = [
            ("job", ["run_at", "enqueued_at", "ready_at"]), ("dependant", ["run_at"]), ("schedule", ["next_at"]),
            ("circuit", ["since", "retry_at", "override_until", "ramp_until"]), ("probe", ["expires_at"]),
            ("suspension", ["since", "until"]), ("rule_claim", ["due_at"]), ("key_clock", ["due_at"]),
            ("rate_pause", ["until"]), ("freed_key", ["due_at"]), ("result", ["finished_at", "expires_at"]),
        ]
        let statements = columns.map { table, names in
            Statement(
                "update breakwater.\(table) set "
                    + names.map { "\($0) = \($0) - $1::interval" }.joined(separator: ", "),
                [.interval(duration)]
            )
        }
        let wake = Statement("select breakwater.wake(array(select kind from breakwater.handler))")
        _ = try await connection.pipeline(statements + [wake])
    }
}
