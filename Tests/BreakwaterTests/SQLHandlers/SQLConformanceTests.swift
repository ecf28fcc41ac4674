import BreakwaterSQL
import BreakwaterTesting
import Libpq
import TestPrograms
import Testing

@testable import Breakwater

@Suite("The sql plugin conforms", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct SQLConformanceTests {
    /// Does what the kind of the job says.
    private static let body = #"""
        declare
            v_kind text := job ->> 'kind';
            v_detail text;
        begin
            case v_kind
                when 'echo' then return payload;
                when 'describe' then return job;
                when 'list' then return '{"a": [1, true, null]}';
                when 'nothing' then return null;
                when 'fail' then raise exception 'it is broken';
                when 'conflict' then raise exception 'no' using errcode = '40001';
                when 'data' then return to_jsonb(1 / 0);
                when 'long' then return to_jsonb(repeat('x', 2000000));
                when 'long-error' then raise exception '%', repeat('x', 7000);
                when 'wait' then
                    perform pg_sleep(600);
                    return null;
                when 'discard' then v_detail := '{"outcome": "discard", "name": "account.closed"}';
                when 'unavailable' then v_detail := '{"outcome": "unavailable", "seconds": 30}';
                when 'throttle' then v_detail := '{"outcome": "throttle", "seconds": 7.5}';
                when 'snooze' then v_detail := '{"outcome": "snooze", "seconds": 60}';
                when 'never' then v_detail := '{"outcome": "snooze", "seconds": 0}';
                when 'nameless' then v_detail := '{"outcome": "discard", "name": ""}';
            end case;
            raise exception 'no' using errcode = 'BRKWT', detail = v_detail;
        end
        """#

    private static func suite(_ sql: SQLHandlerDatabase, _ worker: HandWorker) -> PluginConformance {
        func job(_ kind: String) -> Job { Job(kind: kind) }
        var suite = PluginConformance(scenarios: [
            .succeeds(job("list"), result: #"{"a": [1, true, null]}"#),
            .succeeds(job("nothing")),
            .fails(job("fail"), name: "sql.P0001"),
            .fails(job("conflict"), name: "sql.40001"),
            .discards(job("data"), name: "sql.22012"),
            .discards(job("discard"), name: "account.closed"),
            .unavailable(job("unavailable"), name: "sql.unavailable", retryAfter: .seconds(30)),
            .throttled(job("throttle"), name: "sql.throttle", retryAfter: .seconds(7.5)),
            .snoozes(job("snooze"), for: .seconds(60)),
            .fails(job("never"), name: "sql.BRKWT"),
            .fails(job("nameless"), name: "sql.BRKWT"),
            .givesTooMuch(job("long"), keeping: 1 << 19),
            .fails(job("long-error"), name: "sql.P0001"),
            .waits(job("wait")),
            .describesJob(job("describe")),
            .echoes(job("echo")),
        ]) {
            let plugin = try SQLPlugin(function: "app.act", role: sql.role, maxResultBytes: 1 << 19)
            let connection = try await sql.database.connectDirectly()
            let options = ConnectionOptions(sql.database.directURL)
            try await plugin.prepare(
                kind: "k",
                worker: connection,
                database: options,
                logger: RecordedLog().logger()
            )
            await connection.close()
            return plugin
        }
        suite.patience = .seconds(240)
        suite.prepare = { job, context in
            // The run settles a job that this worker holds.
            try await sql.database.query(
                "insert into breakwater.job (id, kind) overriding system value values ($1, 'k')",
                [.int8(job.id)]
            )
            let claimed = try #require(try await worker.claim(1).first)
            var run = job
            (run.lease, run.generation, run.tuple) = (claimed.lease, claimed.generation, claimed.tuple)
            context.settlement = RunSettlement { _ in
                Settle(worker: worker.id, runs: [FinishedRun(claimed, nil)], claims: [])
            }
            return run
        }
        return suite
    }

    private static func withSuite(_ body: (PluginConformance) async throws -> Void) async throws {
        try await withSQLHandlers { sql in
            try await sql.function("act", Self.body)
            let worker = try await HandWorker(sql.database)
            try await body(suite(sql, worker))
            // The successes are settled, and only they are.
            #expect(try await sql.database.count("job") > 0)
            await worker.connection.close()
        }
    }

    @Test("to what every plugin promises")
    func conforms() async throws {
        try await Self.withSuite { try await $0.check() }
    }

    @Test("and leaves no connection behind")
    func leavesNothing() async throws {
        try await runAlone("BreakwaterTests.SQLConformanceTests/leavesNothing") {
            try await Self.withSuite { suite in
                var suite = suite
                suite.isAlone = true
                try await suite.check()
            }
        }
    }
}
