import BreakwaterTesting
import Libpq
import Logging
import Testing

@testable import Breakwater

@Suite("The fleet's chores", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct ChoreTests {
    @Test("go on with a thousand jobs due since -infinity, and many held until infinity")
    func infiniteRunAt() async throws {
        try await withTestDatabase { database in
            try await database.query(
                "insert into breakwater.job (kind, run_at) select 'z', '-infinity' from generate_series(1, 1001)"
            )
            try await database.query(
                "insert into breakwater.job (kind, run_at) select 'z', 'infinity' from generate_series(1, 1001)"
            )
            let worker = try await HandWorker(database)
            let first = try await worker.maintain()
            #expect(first.failures == [])
            #expect(first.promoted == 1000)
            let second = try await worker.maintain()
            #expect(second.failures == [])
            #expect(second.promoted == 1)
            #expect(second.nextDue == nil)
            for view in ["depth", "job_status", "scaling", "worker_status", "circuit_status"] {
                _ = try await database.query("select * from breakwater.\(view)")
            }
            for call in ["sample_fleet(0)", "backlog()", "workload()"] {
                _ = try await database.query("select * from breakwater.\(call)")
            }
        }
    }

    @Test(
        "have values in range: the table's owner cannot store a time or a count with which they would overflow",
        arguments: [
            ("job", "ready_at = 'infinity'"),
            ("job", "ready_at = '-infinity'"),
            ("job", "ready_at = '290000-01-01'"),
            ("job", "enqueued_at = 'infinity'"),
            ("job", "enqueued_at = '4000-01-01 BC'"),
            ("job", "attempt = 2147483647"), ("job", "attempt = -1"),
            ("job", "crashes = 32767"), ("job", "handed_back = 32767"),
            ("dead_letter", "died_at = 'infinity'"),
            ("dead_letter", "enqueued_at = '-infinity'"),
        ]
    )
    func absurdValues(table: String, change: String) async throws {
        try await withTestDatabase { database in
            try await database.insert()
            try await database.query(
                """
                insert into breakwater.dead_letter (id, queue, kind, priority, payload, reason, attempt, enqueued_at)
                values (99, 'default', 'k', 5, '{}', 'exhausted', 1, now())
                """
            )
            let error = await postgresError { try await database.query("update breakwater.\(table) set \(change)") }
            #expect(error?.constraint == "times_and_counts_are_bounded", "\(error as Any)")
        }
    }

    /// Makes the chore that deletes expired results fail.
    private func breakPruningResults(_ database: TestDatabase) async throws {
        try await database.query(
            """
            create function public.refuse() returns trigger language plpgsql as
            $$ begin raise exception 'the row is % and stays', old.id; end $$
            """
        )
        try await database.query(
            "create trigger refuse before delete on breakwater.result for each row execute function public.refuse()"
        )
        try await database.query(
            "insert into breakwater.result (id, kind, expires_at) values (7, 'k', now() - interval '1 day')"
        )
    }

    @Test("stand alone: one that fails is undone and named, and the others are done")
    func oneFails() async throws {
        try await withTestDatabase { database in
            try await breakPruningResults(database)
            try await database.query("insert into breakwater.job (kind, run_at) values ('k', now())")
            try await database.query(
                "insert into breakwater.audit (actor, action, target, at) values ('me', 'a', 't', now() - interval '2 years')"
            )
            let worker = try await HandWorker(database)
            let done = try await worker.maintain()
            #expect(done.failures.map(\.chore) == ["prune_results"])
            #expect(done.failures.first?.reason.contains("the row is 7 and stays (SQLSTATE P0001)") == true)
            #expect(done.promoted == 1)
            #expect(try await database.count("audit") == 0)
        }
    }

    @Test("of a worker go on in the same way, and its log says once which one fails and why")
    func failureIsLogged() async throws {
        try await withTestDatabase { database in
            try await breakPruningResults(database)
            let log = RecordedLog()
            let handler = HandlerRegistration(kind: "k", plugin: ClosureHandler { _, _ in .succeeded() })
            try await database.withLoggedWorker([handler], log) {
                try await waitUntil("it is logged") {
                    log.warnings.contains { $0.contains("a chore of the fleet failed") }
                }
                // Jobs are still promoted, second after second.
                for _ in 0..<3 {
                    try await database.query(
                        "insert into breakwater.job (kind, run_at) values ('k', now() + interval '200 ms')"
                    )
                    try await waitUntil("it ran") { try await database.count("job") == 0 }
                }
            }
            #expect(log.warnings.filter { $0.contains("a chore of the fleet failed") }.count == 1)
        }
    }

    @Test("do not wait for a unique key that an open transaction has: the other jobs are rerouted")
    func openUniqueKey() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, ["k"]) {
                $0.circuit.fallback = .reroute(kind: "other")
            }
            let holder = try await database.connectDirectly()
            _ = try await holder.query("begin")
            _ = try await holder.query(
                "insert into breakwater.job (kind, unique_key) select 'other', 'u' || i from generate_series(1, 20) i"
            )
            try await database.query(
                "insert into breakwater.job (kind, unique_key) select 'k', 'u' || i from generate_series(1, 20) i"
            )
            try await database.query(
                "insert into breakwater.job (kind, unique_key) select 'k', 'free' || i from generate_series(1, 20) i"
            )
            try await database.insert(20)
            try await database.query(
                "update breakwater.circuit set state = 'open', is_checked = true, retry_at = 'infinity' where kind = 'k'"
            )
            let moved = "select count(*) from breakwater.job where kind = 'other'"
            try await waitUntil("all the others are rerouted") {
                let done = try await worker.maintain()
                #expect(done.leads)
                #expect(done.failures == [])
                return try await database.number(moved) == 40
            }
            _ = try await holder.query("commit")
            // Their unique keys are taken now, so these jobs stay where they are.
            #expect(try await worker.maintain().failures == [])
            #expect(try await database.number("select count(*) from breakwater.job where kind = 'k'") == 20)
            await holder.close()
        }
    }

    @Test(
        "leave retries beyond their kind's budget as they are: nothing is written, and no other kind waits behind them"
    )
    func overBudget() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, ["k", "l"]) { $0.retry.budget = 0.2 }
            let retries = """
                insert into breakwater.job (kind, attempt, run_at, errors)
                select $1, 1, now() - make_interval(secs => $2), '[]' from generate_series(1, $3)
                """
            try await database.query(retries, [.text("k"), .float8(60), .int4(20_000)])
            try await database.query(retries, [.text("l"), .float8(1), .int4(5)])
            try await database.query("insert into breakwater.job (kind, run_at) values ('l', now())")
            let first = try await worker.maintain()
            #expect(first.promoted == 606)
            let rows = """
                select format('%s rows from %s, written by %s to %s', count(*), min(run_at), min(xmin::text::int8),
                              max(xmin::text::int8))
                  from breakwater.job where kind = 'k' and run_at is not null
                """
            let before = try await database.text(rows)
            for _ in 0..<3 {
                let again = try await worker.maintain()
                #expect(again.promoted == 0)
                #expect(again.nextDue == nil)
                #expect(MaintenanceService.pause(after: again) == MaintenanceService.leaderInterval)
            }
            #expect(before.hasPrefix("19400 rows"))
            let why = try await database.text(
                "select why from breakwater.job_status where kind = 'k' and state = 'retrying' limit 1"
            )
            #expect(why.contains("the retry budget of 'k' is spent"), "\(why)")
            #expect(try await database.text(rows) == before)
        }
    }

    @Test("keep the single calls of a circuit that a window may need, and no more")
    func recentCalls() async throws {
        try await withTestDatabase { database in
            try await database.query(
                """
                insert into breakwater.recent_call (kind, key, generation, calls)
                select k, '', g, 's' from unnest(array['a', 'b']) k, generate_series(1, 2) g, generate_series(1, 6000)
                """
            )
            for _ in 0..<5 { try await database.query("select breakwater.prune_recent_calls(1000)") }
            let kept = try await database.numbers(
                "select count(*) from breakwater.recent_call group by kind, generation order by kind, generation"
            )
            #expect(kept == [4000, 6000, 4000, 6000])
        }
    }
}

extension TestDatabase {
    /// Runs `body` beside a worker that logs to `log`.
    func withLoggedWorker(
        _ handlers: [HandlerRegistration],
        _ log: RecordedLog,
        configure: (inout WorkerConfiguration) -> Void = { _ in },
        _ body: @escaping @Sendable () async throws -> Void
    ) async throws {
        var configuration = WorkerConfiguration(database: options, handlers: handlers)
        configuration.pollInterval = .milliseconds(200)
        configuration.lease = .seconds(10)
        configure(&configuration)
        let worker = Worker(configuration: configuration, logger: log.logger())
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await worker.run() }
            try await body()
            tasks.cancelAll()
            try await tasks.waitForAll()
        }
    }
}
