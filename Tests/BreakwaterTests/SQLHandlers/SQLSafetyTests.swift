import BreakwaterSQL
import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import Breakwater

@Suite("The function of a SQL handler", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct SQLSafetyTests {
    @Test("cannot get the rights of the worker")
    func rights() async throws {
        try await withSQLHandlers { sql in
            try await sql.database.query(
                """
                create function app.attempt(statement text) returns text language plpgsql as $$
                begin
                    execute statement;
                    return 'done';
                exception when others then
                    return sqlstate;
                end $$
                """
            )
            try await sql.function(
                "attack",
                """
                begin
                    return (select jsonb_agg(app.attempt(s)) from unnest(array[
                        'reset role', 'set role none', 'set local role none', format('set role %I', session_user),
                        format('set session authorization %I', session_user), 'reset session authorization',
                        'select set_config(''role'', ''none'', false)', 'commit', 'rollback',
                        'select from breakwater.job', 'delete from breakwater.job',
                        'select breakwater.flush(1)']) s);
                end
                """
            )
            try await withLoginRole(sql.database, memberOf: "breakwater_worker") { login in
                try await sql.database.query("grant \(sql.role) to \(login)")
                var options = ConnectionOptions(sql.database.directURL)
                options.keywords = ["user": login]
                let handler = try sql.handler("attack", to: options) { $0.keepResults = .seconds(3600) }
                try await sql.enqueue()
                let own = options
                try await sql.database.withWorker([handler], configure: { $0.database = own }) {
                    try await sql.waitUntilDone()
                }
            }
            let states = try await sql.database.texts(
                "select jsonb_array_elements_text(result) from breakwater.result"
            )
            // 42501 is a missing right, and 0A000 is a statement that functions cannot execute.
            #expect(
                states == Array(repeating: "42501", count: 7) + ["0A000", "0A000"] + Array(repeating: "42501", count: 3)
            )
        }
    }

    @Test("leaves nothing in its session for the next job")
    func leaks() async throws {
        try await withSQLHandlers { sql in
            try await sql.database.connection.script(
                """
                create function app.evil() returns int language plpgsql as $$
                begin insert into app.ledger (job) values (-1); return 1; end $$;
                """
            )
            try await sql.function(
                "leak",
                """
                declare
                    v_seen jsonb := jsonb_build_array(
                        current_setting('search_path'), current_setting('lock_timeout'), current_setting('client_encoding'),
                        coalesce(current_setting('app.mine', true), ''), (select count(*) from pg_cursors where name = 'held'),
                        (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()));
                begin
                    perform set_config('search_path', 'pg_temp', false), set_config('lock_timeout', '1', false),
                            set_config('client_encoding', 'LATIN1', false), set_config('app.mine', 'x', false),
                            set_config('statement_timeout', '1', false), set_config('row_security', 'off', false),
                            set_config('default_transaction_isolation', 'serializable', false),
                            set_config('idle_in_transaction_session_timeout', '1', false),
                            pg_advisory_lock(7);
                    execute 'declare held cursor with hold for select app.evil()';
                    if payload = '"fail"' then
                        set idle_in_transaction_session_timeout = 0;
                        raise exception 'no';
                    end if;
                    return v_seen || to_jsonb(pg_backend_pid());
                end
                """
            )
            for payload in [#""a""#, #""fail""#, #""b""#, #""fail""#, #""c""#] { try await sql.enqueue(payload) }
            let handler = try sql.handler("leak", connections: 1) { $0.keepResults = .seconds(3600) }
            try await sql.database.withWorker([handler]) { try await sql.waitUntilDone() }
            let seen = try await sql.database.texts("select result::text from breakwater.result order by id")
            #expect(seen.count == 3)
            #expect(Set(seen).count == 1, "\(seen)")
            #expect(seen[0].hasPrefix(#"["\"$user\", public", "0", "UTF8", "", 0, 0,"#), "\(seen)")
            // The cursor's query would have run with the rights of the worker.
            #expect(try await sql.ledger().entries == 0)
        }
    }

    @Test("cannot hide a type that the worker's statements name")
    func types() async throws {
        try await withSQLHandlers { sql in
            try await sql.function(
                "hide",
                """
                begin
                    if to_regtype('pg_temp.text') is null then
                        execute 'create function pg_temp.evil(v pg_catalog.text) returns bool language plpgsql as
                                 ''begin insert into app.ledger (job) values (-1); return true; end''';
                        execute 'create domain pg_temp.text as pg_catalog.text check (pg_temp.evil(value))';
                        execute 'create domain pg_temp.oid as pg_catalog.oid
                                 check (pg_temp.evil(value::pg_catalog.text))';
                    end if;
                    return to_jsonb(to_regtype('pg_temp.text') is not null);
                end
                """
            )
            try await sql.enqueue(count: 3)
            let handler = try sql.handler("hide", connections: 1) { $0.keepResults = .seconds(3600) }
            try await sql.database.withWorker([handler]) { try await sql.waitUntilDone() }
            let hidden = try await sql.database.texts("select result::text from breakwater.result")
            #expect(hidden == ["true", "true", "true"])
            // The checks of the domains would have run with the rights of the worker.
            #expect(try await sql.ledger().entries == 0)
        }
    }

    @Test("cannot replace the function that calls it")
    func replacement() async throws {
        try await withSQLHandlers { sql in
            try await sql.function(
                "replace",
                """
                begin
                    perform app.pay(payload, job);
                    if payload = '"bad"' then
                        execute 'create or replace function pg_temp.breakwater_call(p_payload jsonb, p_job jsonb)
                                 returns jsonb language sql as ''select to_jsonb(current_user::text)''';
                    end if;
                    return to_jsonb(current_user::text);
                end
                """
            )
            for payload in [#""bad""#, #""good""#] { try await sql.enqueue(payload) }
            let handler = try sql.handler("replace", connections: 1) { $0.keepResults = .seconds(3600) }
            try await sql.database.withWorker([handler]) { try await sql.waitUntilDone() }
            #expect(try await sql.letters()[0].hasPrefix("exhausted|sql.replaced|"))
            #expect(try await sql.database.texts("select result::text from breakwater.result") == ["\"\(sql.role)\""])
            #expect(try await sql.ledger().entries == 1)
        }
    }

    @Test("is checked when the worker starts")
    func checks() async throws {
        try await withSQLHandlers { sql in
            try await withLoginRole(sql.database, memberOf: "breakwater_worker") { login in
                var options = ConnectionOptions(sql.database.directURL)
                options.keywords = ["user": login]
                try await sql.function("many", returns: "setof jsonb", "begin end")
                try await sql.database.query("create function app.other(a text) returns void language sql as ''")
                try await sql.function("private", "begin return null; end")
                try await sql.database.query("revoke execute on function app.private from public")
                let cases = [
                    ("nothing", sql.role, "there is no function app.nothing(jsonb, jsonb) or app.nothing(jsonb)"),
                    ("other", sql.role, "there is no function app.other(jsonb, jsonb) or app.other(jsonb)"),
                    ("many", sql.role, "the function app.many returns a set"),
                    ("private", sql.role, "the role \(sql.role) may not call the function app.private"),
                    ("pay", "no_such_role", "the role no_such_role does not exist"),
                    ("pay", login, "the role \(login) has the rights of a worker or of a superuser"),
                    ("pay", sql.role, "the worker's login \(login) may not take the role \(sql.role)"),
                ]
                for (function, role, message) in cases {
                    let handler = HandlerRegistration(
                        kind: "k",
                        plugin: try SQLPlugin(function: "app.\(function)", role: role, database: options)
                    )
                    let configuration = WorkerConfiguration(database: options, handlers: [handler])
                    let error = await #expect(throws: BreakwaterError.self) {
                        try await Worker(configuration: configuration, logger: RecordedLog().logger()).run()
                    }
                    #expect(error?.code == .invalidConfiguration)
                    #expect(error?.message.hasPrefix("handlers.k.sql: \(message)\n") == true, "\(error?.message ?? "")")
                }
            }
            // A job can only be settled in the database that has it.
            try await withTestDatabase { other in
                let handler = try sql.handler("pay", to: ConnectionOptions(other.directURL))
                let configuration = WorkerConfiguration(database: sql.database.options, handlers: [handler])
                let error = await #expect(throws: BreakwaterError.self) {
                    try await Worker(configuration: configuration, logger: RecordedLog().logger()).run()
                }
                #expect(error?.message.contains("another database than the worker's") == true)
            }
            #expect(try await sql.database.count("worker") == 0)
        }
    }
}
