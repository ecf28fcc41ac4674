import BreakwaterTesting
import Foundation
import Libpq
import Testing

@Suite(
    "A worker process with a SQL handler",
    .enabled(if: TestDatabase.isAvailable && WorkerBinary.isBuilt, "BREAKWATER_TEST_DATABASE or the program is missing")
)
struct SQLWorkerTests {
    private func withRole(_ body: (TestDatabase, _ role: String) async throws -> Void) async throws {
        try await withTestDatabase { database in
            let role = "jobs_\(UUID().uuidString.prefix(13).lowercased().replacing("-", with: "_"))"
            try await database.connection.script(
                """
                create role \(role); create schema app; grant usage on schema app to \(role);
                create table app.ledger (job bigint); grant insert on app.ledger to \(role);
                create function app.pay(payload jsonb, job jsonb) returns void language plpgsql as $f$
                begin
                    insert into app.ledger values ((job ->> 'id')::bigint);
                    perform pg_sleep(0.005);
                end $f$;
                """
            )
            let drop = "drop owned by \(role) cascade; drop role \(role)"
            do {
                try await body(database, role)
            } catch {
                try? await database.connection.script(drop)
                throw error
            }
            try await database.connection.script(drop)
        }
    }

    private func file(_ database: TestDatabase, _ role: String, function: String = "app.pay") -> String {
        """
        lease: 1s
        poll_interval: 50ms
        handlers:
          pay:
            sql: { function: \(function), role: \(role), database: "\(database.directURL)" }
            circuit: off
        """
    }

    @Test("runs each job exactly once, although it is killed again and again")
    func killed() async throws {
        try await withRole { database, role in
            let count = 1500
            try await database.query(
                "insert into breakwater.job (kind) select 'pay' from generate_series(1, $1)",
                [.int4(Int32(count))]
            )
            try await withFile(file(database, role)) { path in
                var kills = 0
                func ended() async throws -> Int { try await database.number("select count(*) from app.ledger") }
                while try await database.number("select count(*) from breakwater.job") > 0 {
                    let before = try await ended()
                    let run = try WorkerBinary.Run(["run", "--config", path, "--database", database.url])
                    do {
                        try await waitUntil("it has done a part") {
                            let isDone = try await database.number("select count(*) from breakwater.job") == 0
                            let now = try await ended()
                            return isDone || (kills < 4 && now >= before + count / 6)
                        }
                    } catch {
                        run.signal(SIGKILL)
                        throw error
                    }
                    kills += 1
                    run.signal(SIGKILL)
                    _ = try await run.end()
                }
                #expect(kills == 5)
            }
            #expect(try await database.number("select count(*) from app.ledger") == count)
            #expect(try await database.number("select count(distinct job) from app.ledger") == count)
            #expect(try await database.number("select count(*) from breakwater.dead_letter") == 0)
        }
    }

    @Test("exits with 78 if the function cannot be called, and says why")
    func refused() async throws {
        try await withRole { database, role in
            try await withFile(file(database, role, function: "app.nothing")) { path in
                let end = try await WorkerBinary.Run(["run", "--config", path, "--database", database.url]).end()
                #expect(end.status == 78)
                #expect(end.errors.contains("handlers.pay.sql: there is no function app.nothing(jsonb, jsonb)"))
            }
        }
    }
}
