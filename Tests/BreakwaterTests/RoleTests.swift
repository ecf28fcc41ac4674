import Breakwater
import BreakwaterTesting
import Libpq
import Testing

@Suite("Roles", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct RoleTests {
    /// Runs a statement, and returns nil if the role may run it, otherwise the SQLSTATE.
    private func state(_ connection: Connection, _ sql: String) async -> String? {
        await postgresError { _ = try await connection.query(sql) }?.sqlState
    }

    @Test("breakwater_enqueue inserts jobs and calls enqueue, and nothing else")
    func enqueueRole() async throws {
        try await withTestDatabase { database in
            try await withLoginRole(database, memberOf: "breakwater_enqueue") { role in
                let connection = try await database.connect(as: role)
                for allowed in [
                    "insert into breakwater.job (kind, payload) values ('k', '{}')",
                    """
                    insert into breakwater.job (queue, kind, priority, run_at, max_attempts, payload, unique_key, traceparent)
                    values ('q', 'k', 1, now(), 3, '{}', 'u', 't')
                    """,
                    // Object-relational mappers ask for the id of a new row. Of other users' jobs, the role sees
                    // nothing but the ids.
                    "insert into breakwater.job (kind) values ('k') returning id", "select id from breakwater.job",
                    "select breakwater.enqueue('k', '{}')",
                    "select breakwater.enqueue_many('k', array['{}', '{}']::jsonb[])",
                ] {
                    #expect(await state(connection, allowed) == nil, "\(allowed)")
                }
                for refused in [
                    "select * from breakwater.job", "select kind from breakwater.job",
                    "select ctid from breakwater.job",
                    "select id from breakwater.job for update", "select id from breakwater.job where kind = 'k'",
                    "update breakwater.job set priority = 1", "delete from breakwater.job",
                    "insert into breakwater.job (kind, lease) values ('k', 1)",
                    "insert into breakwater.job (kind, position) values ('k', 1)",
                    "insert into breakwater.job (kind) values ('k') returning kind",
                    "insert into breakwater.job (kind) values ('k') returning *",
                    "select * from breakwater.dead_letter", "select * from breakwater.circuit",
                    "select * from breakwater.depth", "select * from breakwater.job_status",
                    "select breakwater.redrive(1)", "select breakwater.purge(1)", "select breakwater.cancel(1)",
                    "select breakwater.run_now(1)", "select breakwater.pause_queue('default', 'r')",
                    "select breakwater.resume_queue('default')", "select breakwater.open_circuit('k', 'r')",
                    "select breakwater.reset_circuit('k', 'r')", "select breakwater.beat(1, 'running', 0, 0)",
                    "select breakwater.claim(1, '{q}', '{k}', '{5}', '{1}', '{1}', '{1}', 1, true)",
                    "select breakwater.leave(1)", "select breakwater.maintain(1, 5)",
                    "select breakwater.dead_letter_job(1, 'r', null)", "create table breakwater.mine ()",
                    "truncate breakwater.job", "drop table breakwater.job",
                ] {
                    #expect(await state(connection, refused) == "42501", "\(refused)")
                }
                await connection.close()
            }
            #expect(try await database.count("job") == 6)
        }
    }

    @Test("an enqueuer cannot advance another enqueuer's import, nor learn how far it is")
    func imports() async throws {
        try await withTestDatabase { database in
            try await withLoginRole(database, memberOf: "breakwater_enqueue") { first in
                try await withLoginRole(database, memberOf: "breakwater_enqueue") { second in
                    let (one, other) = (try await database.connect(as: first), try await database.connect(as: second))
                    func lines(_ count: Int, from line: Int) -> String {
                        """
                        select breakwater.enqueue_lines(
                            array_fill('{"kind": "k"}'::jsonb, array[\(count)]), '{}', 'january',
                            \(line), \(line + count - 1), 'line')
                        """
                    }
                    let position = "select lines from breakwater.import_position('january')"
                    _ = try await one.query(lines(10, from: 1))
                    #expect(try await other.query(position)[0][0].int() == 0)
                    _ = try await other.query(lines(100, from: 1))
                    #expect(try await one.query(position)[0][0].int() == 10)
                    _ = try await one.query(lines(10, from: 11))
                    #expect(await state(one, lines(10, from: 11)) == "55006", "these lines were added already")
                    #expect(try await database.count("job") == 120)
                    await one.close()
                    await other.close()
                }
            }
        }
    }

    @Test("breakwater_admin reads, redrives, pauses and overrides, and is no worker")
    func adminRole() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            try await database.insert()
            try await worker.runOne(.discarded)
            let id = try await database.number("select id from breakwater.dead_letter")
            try await withLoginRole(database, memberOf: "breakwater_admin") { role in
                let connection = try await database.connect(as: role)
                for allowed in [
                    "select * from breakwater.dead_letter", "select * from breakwater.circuit_status",
                    "select * from breakwater.depth", "select * from breakwater.job_status",
                    "select * from breakwater.worker_status", "select breakwater.redrive(\(id))",
                    "select breakwater.redrive('k')", "select breakwater.cancel(\(id))",
                    "select breakwater.purge(\(id))", "select breakwater.purge('k')", "select breakwater.run_now(1)",
                    "select breakwater.pause_queue('default', 'r')", "select breakwater.resume_queue('default')",
                    "select breakwater.pause_kind('k', 'r')", "select breakwater.resume_kind('k')",
                    "select breakwater.open_circuit('k', 'r')", "select breakwater.close_circuit('k', 'r')",
                    "select breakwater.reset_circuit('k', 'r')", "select breakwater.enqueue('k')",
                ] {
                    #expect(await state(connection, allowed) == nil, "\(allowed)")
                }
                for refused in [
                    "select breakwater.leave(1)", "select breakwater.beat(1, 'running', 0, 0)",
                    "delete from breakwater.dead_letter", "update breakwater.circuit set state = 'open'",
                    "update breakwater.job set lease = 0", "drop table breakwater.job",
                ] {
                    #expect(await state(connection, refused) == "42501", "\(refused)")
                }
                // The history names the user who asked, not the functions' owner.
                let actors = try await database.texts("select distinct actor from breakwater.circuit_transition")
                #expect(actors == [role])
                await connection.close()
            }
        }
    }

    @Test("breakwater_worker runs a whole worker, and can touch no table by hand")
    func workerRole() async throws {
        try await withTestDatabase { database in
            try await withLoginRole(database, memberOf: "breakwater_worker") { role in
                try await database.insert(20)
                try await database.insert(1, kind: "fails", maxAttempts: 1)
                try await database.query("select breakwater.enqueue('k', run_at => now() + interval '500 ms')")
                let handlers = [
                    HandlerRegistration(kind: "k", plugin: ClosureHandler { _, _ in .succeeded() }),
                    HandlerRegistration(
                        kind: "fails",
                        plugin: ClosureHandler { _, _ in .failed(JobFailure("a", "b")) }
                    ),
                ]
                try await database.withWorker(handlers, configure: { $0.database = database.options(for: role) }) {
                    try await waitUntil("all jobs end") { try await database.count("job") == 0 }
                }
                #expect(try await database.texts("select reason from breakwater.dead_letter") == ["exhausted"])
                #expect(try await database.count("worker") == 0)

                let connection = try await database.connect(as: role)
                for refused in [
                    "select * from breakwater.job", "delete from breakwater.job", "select * from breakwater.worker",
                    "alter table breakwater.job add column x int", "select breakwater.enqueue('k')",
                    "select breakwater.redrive(1)", "select breakwater.open_circuit('k', 'r')",
                    "select breakwater.dead_letter_job(1, 'r', null)", "select breakwater.promote(1)",
                ] {
                    #expect(await state(connection, refused) == "42501", "\(refused)")
                }
                await connection.close()
            }
        }
    }

    @Test("PUBLIC can execute no function, and each SECURITY DEFINER function pins its search path")
    func functions() async throws {
        try await withTestDatabase { database in
            let open = try await database.texts(
                """
                select p.proname from pg_proc p
                 where p.pronamespace = 'breakwater'::regnamespace
                   and has_function_privilege('public', p.oid, 'execute')
                """
            )
            // The table's constraints call this function with the rights of the inserting role.
            #expect(open == ["has_control_characters"])
            let unpinned = try await database.texts(
                """
                select p.proname from pg_proc p
                 where p.pronamespace = 'breakwater'::regnamespace and p.prosecdef
                   and not coalesce(p.proconfig::text like '%search_path=pg_catalog, pg_temp%', false)
                   -- Runs at each INSERT, and says the schema of every name and operator in it: see ShadowingTests.
                   and p.proname <> 'wake_for_inserted'
                """
            )
            #expect(unpinned == [])
        }
    }

    @Test("functions ignore objects that shadow others in the caller's search path")
    func shadowing() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database)
            let connection = worker.connection
            try await connection.script(
                """
                create schema evil;
                create table evil.caught (what text);
                create function evil.now() returns timestamptz language plpgsql as
                    $$ begin insert into evil.caught values ('now'); return '2000-01-01'; end $$;
                create function evil.octet_length(text) returns integer language plpgsql as
                    $$ begin insert into evil.caught values ('octet_length'); return 1; end $$;
                create function evil.unnest(anyarray) returns setof anyelement language plpgsql as
                    $$ begin insert into evil.caught values ('unnest'); return; end $$;
                create function evil.coalesce_jsonb(jsonb) returns jsonb language sql as 'select $1';
                create table evil.job (like breakwater.job);
                set search_path = evil, pg_catalog;
                create temporary table pg_class (oid oid);
                """
            )
            _ = try await connection.query("select breakwater.enqueue('k', '{}', unique_key => 'u')")
            _ = try await connection.query("insert into breakwater.job (kind) values ('k')")
            let jobs = try await worker.claim()
            #expect(jobs.count == 2)
            try await worker.settle([jobs[0]], .failed())
            try await worker.settle([jobs[1]])
            try await worker.maintain()
            _ = try await connection.query("select breakwater.open_circuit('k', 'r')")
            #expect(try await database.number("select count(*) from evil.caught") == 0)
            #expect(try await database.number("select count(*) from evil.job") == 0)
        }
    }
}
