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
                    perform pg_advisory_xact_lock_shared((payload ->> 'round')::int);
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

    /// How many calls wait for an advisory lock of this database.
    private func waitingCalls(_ database: TestDatabase) async throws -> Int {
        try await database.number(
            """
            select count(*) from pg_locks l join pg_database d on d.oid = l.database
             where d.datname = current_database() and l.locktype = 'advisory' and not l.granted
            """
        )
    }

    @Test("runs each job exactly once, although it is killed again and again")
    func killed() async throws {
        try await withRole { database, role in
            let (count, rounds) = (1500, 5)
            try await database.query(
                """
                insert into breakwater.job (kind, payload)
                select 'pay', jsonb_build_object('round', (i - 1) * $2 / $1) from generate_series(1, $1) i order by i
                """,
                [.int4(Int32(count)), .int4(Int32(rounds))]
            )
            // The jobs of each round but the first wait, in their transactions, for the lock of the round.
            let locks = try await database.connectDirectly()
            _ = try await locks.query(
                "select pg_advisory_lock(i) from generate_series(1, $1) i",
                [.int4(Int32(rounds - 1))]
            )
            try await withFile(file(database, role)) { path in
                for round in 1...rounds {
                    let run = try WorkerBinary.Run(["run", "--config", path, "--database", database.url])
                    do {
                        if round < rounds {
                            try await waitUntil("all its calls are of the next round") {
                                try await waitingCalls(database) == 4
                            }
                            // The calls go on, and the kill meets some of them at any point.
                            _ = try await locks.query("select pg_advisory_unlock($1)", [.int4(Int32(round))])
                        } else {
                            try await waitUntil("all jobs have ended") {
                                try await database.number("select count(*) from breakwater.job") == 0
                            }
                        }
                    } catch {
                        run.signal(SIGKILL)
                        throw error
                    }
                    run.signal(SIGKILL)
                    _ = try await run.end()
                }
            }
            await locks.close()
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
