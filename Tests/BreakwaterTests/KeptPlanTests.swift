import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("The plans of functions", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct KeptPlanTests {
    @Test(
        "neither a claim nor a settle calls a function whose plan is not kept",
        arguments: [
            "", "'limit', null, 100, null, null, null", "'limit', null, null, 1000, null, null",
            "'limit', '{c}', 3, null, null, null", "'limit', '{c}', null, 1000, null, null",
            "'order', '{c}', null, null, null, 'continue'", "'share', '{c}', null, null, null, null",
            "'adapt', null, 100, null, 20, null",
        ]
    )
    func keepsPlans(rule: String) async throws {
        try await withTestDatabase { database in
            if !rule.isEmpty {
                try await database.connection.script(
                    """
                    insert into breakwater.flow_rule
                           (name, source, type, key_path, concurrency, rate, burst, least, on_dead)
                    select 'k', 'operator', r.type, r.path::text[], r.concurrency::integer, r.rate::integer,
                           r.rate::integer, r.least::integer, r.dead
                      from (values (\(rule))) r(type, path, concurrency, rate, least, dead)
                    """
                )
            }
            let worker = try await HandWorker(database) { $0.history = JobHistory(keep: .seconds(86_400)) }
            func run() async throws {
                try await worker.connection.script(
                    """
                    insert into breakwater.job (kind, payload)
                    select 'k', jsonb_build_object('c', random()) from generate_series(1, 8)
                    """
                )
                let jobs = try await worker.claim()
                try #require(jobs.count >= 8)
                let endings: [FinishedRun.Ending] = [
                    .failed(), .discarded, .unavailable(), .throttled(), .snoozed(.seconds(9)),
                ]
                for (job, ending) in zip(jobs, endings) { try await worker.settle([job], ending) }
                try await worker.settle(Array(jobs.dropFirst(endings.count)), claims: [jobs[0].lease])
            }
            try await run()
            try await worker.connection.script("begin; set local track_functions = 'all'")
            try await run()
            // Postgres plans the statements of such a function each time that another statement calls it, unless it
            // inlines the function.
            let rows = try await worker.query(
                """
                select p.proname from pg_stat_xact_user_functions s join pg_proc p on p.oid = s.funcid
                  join pg_language l on l.oid = p.prolang where l.lanname = 'sql' order by 1
                """
            )
            let planned = try rows.map { try $0[0].string() }
            #expect(planned == [])
            try await worker.connection.script("rollback")
        }
    }
}
