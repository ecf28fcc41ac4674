import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

/// The schema of an attacker. It has objects with the names of the system's, so that a function with its owner's rights
/// might use them by mistake.
private let evilSchema = """
    create schema evil;
    grant usage on schema evil to public;

    -- Each of these raises an error that no code here expects.
    do $$
    declare
        v_one record;
        v_made integer := 0;
    begin
        -- Operators with the arguments of the system's own: the one that comes first in the path is taken.
        for v_one in
            select o.oprname, o.oprleft::regtype::text as l, o.oprright::regtype::text as r, o.oprresult::regtype::text as result
              from pg_operator o
             where o.oprnamespace = 'pg_catalog'::regnamespace and o.oprleft <> 0
               and o.oprleft = any ('{text,bigint,integer,smallint,boolean,"double precision",timestamptz,interval,jsonb,anyarray,numeric,name,oid,tid,xid}'::regtype[])
        loop
            begin
                v_made := v_made + 1;
                execute format(
                    'create function evil.operator_%s(%s, %s) returns %s language plpgsql as '
                    '$f$ begin raise exception ''evil: operator %s''; end $f$', v_made, v_one.l, v_one.r, v_one.result,
                    v_one.oprname);
                execute format('create operator evil.%s (leftarg = %s, rightarg = %s, function = evil.operator_%s)',
                               v_one.oprname, v_one.l, v_one.r, v_made);
            exception when others then null;
            end;
        end loop;
        -- Functions that breakwater's own name anywhere.
        for v_one in
            select p.proname, pg_get_function_identity_arguments(p.oid) as arguments, p.prorettype::regtype::text as result,
                   p.proretset
              from pg_proc p
             where p.pronamespace = 'pg_catalog'::regnamespace and p.prokind = 'f'
               and p.proname in (select regexp_split_to_table(b.prosrc, '\\W+') from pg_proc b
                                  where b.pronamespace = 'breakwater'::regnamespace)
        loop
            begin
                execute format(
                    'create function evil.%I(%s) returns %s language plpgsql as '
                    '$f$ begin raise exception ''evil: function %s''; end $f$', v_one.proname, v_one.arguments,
                    case when v_one.proretset then 'setof ' else '' end || v_one.result, v_one.proname);
            exception when others then null;
            end;
        end loop;
        -- Relations and types under the names of breakwater's, and of the system's.
        for v_one in
            select c.relname from pg_class c
             where c.relkind in ('r', 'v') and (c.relnamespace = 'breakwater'::regnamespace
                or c.relname in ('pg_class', 'pg_locks', 'pg_database', 'pg_roles', 'pg_policy'))
        loop
            execute format('create table evil.%I (evil text)', v_one.relname);
        end loop;
    end
    $$;
    create table evil.inserted (queue pg_catalog.text, kind pg_catalog.text, run_at pg_catalog.timestamptz);
    create domain evil.text as pg_catalog.text check (false);
    create domain evil.jsonb as pg_catalog.jsonb check (false);
    create domain evil.int8 as pg_catalog.int8 check (false);
    create domain evil.timestamptz as pg_catalog.timestamptz check (false);
    """

@Suite(
    "An attacker's schema, first in the caller's search_path,",
    .enabled(if: TestDatabase.isAvailable, "\(needsServer)"),
    .disabled(if: TestDatabase.isPooled, "a pooler refuses the attacker's sessions")
)
struct ShadowingTests {
    /// The options of the attacker's sessions. `pg_temp` is named because it would otherwise come first, for relations
    /// only.
    private let attack = "-c search_path=evil,pg_temp,pg_catalog"

    @Test("is used by no function that runs with its owner's rights")
    func attack() async throws {
        try await withTestDatabase { database in
            try await database.connection.script(evilSchema, timeout: .seconds(60))
            let made = try await database.number(
                "select count(*) from pg_proc where pronamespace = 'evil'::regnamespace"
            )
            #expect(made > 300, "the attack is not what it should be")
            try await database.connection.script("alter database \(database.name) set track_functions = 'all'")
            var options = database.options
            options = ConnectionOptions(database.url, keywords: ["options": attack])
            let attacker = try await Connection.connect(options, logger: RecordedLog().logger())

            // The attack works on an ordinary session.
            let proof = await postgresError { _ = try await attacker.query("select now()") }
            #expect(proof?.message.hasPrefix("evil: ") == true, "\(proof.map { "\($0)" } ?? "nothing was caught")")

            // These rows let inserts find a sleeping worker to notify, and a worker that polls.
            try await database.connection.script(
                """
                select breakwater.sleep(-1, '{k,bad,fails}');
                insert into breakwater.sleeper (worker, queues, kinds, polled, until)
                values (-2, '{default}', '{k}', '{bad}', now() + interval '1 hour')
                """
            )
            try await attacker.listen("breakwater")

            // These statements give the worker successes, failures, retries, dead letters, circuits and scheduled jobs.
            for statement in [
                "insert into breakwater.job (kind) values ('k'), ('bad')",
                "select breakwater.enqueue('k', unique_key => 'u')",
                "select breakwater.enqueue('k', '{}', 'default', 1, '2000-01-01', 3, 'v', 't')",
                "select breakwater.enqueue_many('k', array['{}', '[]']::pg_catalog.jsonb[])",
                "select breakwater.enqueue('bad')", "select breakwater.enqueue('fails', max_attempts => 2)",
                "select breakwater.enqueue('later', run_at => '2100-01-01')",
            ] {
                let error = await postgresError { _ = try await attacker.query(statement) }
                #expect(error == nil, "\(statement)")
            }
            _ = try await attacker.query("select pg_catalog.pg_notify('breakwater', 'end')")
            let told = await attacker.notifications.prefix { $0.payload != "end" }.reduce(into: []) {
                $0.append($1.payload)
            }
            #expect(told == ["job:k", "job:k", "job:k", "job:k", "job:fails"])
            try await database.query("delete from breakwater.sleeper")
            let handlers = [
                HandlerRegistration(kind: "k", plugin: ClosureHandler { _, _ in .succeeded(result: "1") }),
                HandlerRegistration(
                    kind: "bad",
                    plugin: ClosureHandler { _, _ in .discarded(JobFailure("bad", "no")) }
                ),
                HandlerRegistration(
                    kind: "fails",
                    plugin: ClosureHandler { _, _ in .failed(JobFailure("failed", "no")) }
                ),
            ].map { registration in
                var registration = registration
                registration.settings.keepResults = .seconds(60)
                registration.settings.history = JobHistory(keep: .seconds(3600), payload: true, key: ["n"])
                registration.settings.retry.base = .milliseconds(10)
                registration.settings.circuit.consecutiveFailures = 100
                return registration
            }
            let log = RecordedLog()
            try await database.withWorker(handlers, configure: { $0.database = options }) {
                try await waitUntil("all but the later job have ended") {
                    try await database.number("select count(*) from breakwater.job") == 1
                }
            }
            #expect(log.messages.filter { $0.contains("evil") } == [])
            #expect(try await database.count("result") == 5)
            #expect(try await database.count("dead_letter") == 3)

            // The worker had no reason to call these functions, or only users call them.
            let dead = try await database.numbers("select id from breakwater.dead_letter order by id")
            let later = try await database.number("select id from breakwater.job")
            let worker = try await HandWorker(database)
            try await database.query("update breakwater.circuit set state = 'open' where kind = 'k'")
            for statement in [
                "select breakwater.probe_circuit('k', 'r')",
                "select breakwater.redrive(\(dead[0]))", "select breakwater.redrive('fails')",
                "select breakwater.cancel(\(dead[0]))", "select breakwater.purge(\(dead[0]))",
                "select breakwater.purge('fails')", "select breakwater.run_now(\(later))",
                "select breakwater.edit_job(\(later), '{\"n\": 1}', '2100-01-02', 3, 'r')",
                "select breakwater.why_waits(\(later))",
                "select breakwater.enqueue('k', after => array[\(later)]::pg_catalog.int8[])",
                "select breakwater.add_to_batch(breakwater.batch('k', open => true), array[\(later)]::pg_catalog.int8[])",
                "select breakwater.close_batch(1)", "select * from breakwater.job_tree(\(later))",
                "select breakwater.why_dependent(j.id) from breakwater.job j",
                "select breakwater.report_progress(1, '{1}', '{1}', '{1}', '{0.5}', '{n}', '{1}')",
                "select breakwater.cancel_jobs('nobody')", "select breakwater.run_jobs_now('nobody')",
                "select * from breakwater.cancel_jobs_some('nobody', null, '{}', '$.n', 9, 0, 10, false, 'r', 'a')",
                "select * from breakwater.run_jobs_now_some('nobody', null, '{}', '$.n', 9, 0, 10, true, 'r', 'a')",
                "select * from breakwater.find_ended(null, 9, 'k', null, null, '$.n', 'x', null, null, 9, '1 s')",
                "select * from breakwater.find_jobs(null, 'k', null, null, null, 10, '1 s', 'x')",
                "select breakwater.redrive(\(dead[0]), 'r', 'a', '{}')",
                "select breakwater.run_through(breakwater.enqueue('k'))",
                "select breakwater.set_priority(\(later), 1)", "select breakwater.pause_queue('q', 'r')",
                "select breakwater.set_limit('k', concurrency => 5, rate => 10)",
                "select * from breakwater.limit_status",
                "select breakwater.why_held_back(j) from breakwater.job j", "select breakwater.starts_left('k')",
                "select breakwater.remove_limit('k')",
                "select breakwater.set_share_weight('k', 't', 2)",
                "select breakwater.set_limit('l', concurrency => 5, key => '$.a')",
                "select breakwater.set_key_limit('l', 'v', concurrency => 5, rate => 10)",
                "select breakwater.remove_key_limit('l', 'v')",
                "select breakwater.set_endpoint('f', 'https://e.example/', concurrency => 5, rate => 2)",
                "select breakwater.resume_queue('q')", "select breakwater.pause_kind('k', 'r')",
                "select breakwater.resume_kind('k')", "select breakwater.drain_worker(\(worker.id), 'r')",
                "select breakwater.undrain_worker(\(worker.id))", "select breakwater.open_circuit('k', 'r')",
                "select breakwater.close_circuit('k', 'r')", "select breakwater.disable_circuit('k', 'r')",
                "select breakwater.observe_circuit('k', 'r')", "select breakwater.reset_circuit('k', 'r')",
                "select breakwater.stop_sleeping(1)", "select breakwater.sleep(1, '{k}')",
                "select breakwater.reconcile(1, '{}')",
                "select * from breakwater.redrive_some('{1}', 'k', null, null, null, 10, 'r', 'a', null)",
                "select * from breakwater.purge_some('{1}', 'k', null, null, null, 10, 'r', 'a', null)",
                "select * from breakwater.find_jobs(null, 'k', null, null, null, 10, '1 s')",
                "select breakwater.flush(1)",
                "update breakwater.job set priority = 2 where id operator(pg_catalog.=) \(later)",
                "select * from breakwater.poll_hot_kinds(1, '{q}', '{k}', '{k}', 1)",
                "select breakwater.dead_letter_unreadable(1, '{q}', '{k}', '{5}', 10)",
                "select * from breakwater.claim_suspects(1)", "select breakwater.survived(1)",
                "select breakwater.unsubscribe(breakwater.subscribe())", "select * from breakwater.workload()",
                "select * from breakwater.import_position('i')",
                "select * from breakwater.sample_fleet(0)", "select * from breakwater.transitions_after(0)",
                "select * from breakwater.enqueue_lines(array['{\"kind\": \"k\"}']::pg_catalog.jsonb[])",
                "select * from breakwater.lock_waits()", "select * from breakwater.next_notice()",
                "select breakwater.notice_ended(1, 'began', 1, true)",
                "select breakwater.register_endpoint_kinds('[{\"kind\": \"k\", \"path\": [\"e\"], \"when_disabled\": \"hold\"}]')",
                "select breakwater.set_endpoint('e', 'https://e.example/', '{}', '{\"A\": \"b\"}', '1 hour')",
                "select * from breakwater.endpoints_named('{e}')",
                "select breakwater.record_endpoint_calls('[{\"kind\": \"k\", \"name\": \"e\", \"failure\": \"f\", \"is_gone\": true}]')",
                "select * from breakwater.next_endpoint_notice()",
                "select breakwater.endpoint_notice_ended(1, 1, true)",
                "select breakwater.enable_endpoint('e')", "select breakwater.disable_endpoint('e', 'r')",
                "select breakwater.redeliver_endpoint('e', pg_catalog.now())", "select breakwater.remove_endpoint('e')",
                "select * from breakwater.dead_letters_of_incident(1)",
                "select * from breakwater.rename_kind('nobody', 'k')", "select breakwater.renew_registration(1, '[]')",
                "select breakwater.why_unseen('q', 'k', 1::pg_catalog.int2, 1, 1)",
                "select breakwater.set_schedule('s', cron => '0 3 * * *', kind => 'k')",
                "select * from breakwater.run_schedule('s')", "select breakwater.pause_schedule('s', 'r')",
                "select breakwater.resume_schedule('s')", "select breakwater.remove_schedule('s')",
                "select breakwater.set_configured_schedules('w', '[{\"name\": \"s\", \"every\": \"1s\", \"kind\": \"k\"}]')",
                "select breakwater.leave(\(worker.id))",
            ] {
                let error = await postgresError { _ = try await attacker.query(statement) }
                #expect(error?.message.contains("evil") != true, "\(statement): \(error.map { "\($0)" } ?? "")")
            }
            await attacker.close()

            for table in ["job", "dead_letter", "circuit", "worker"] {
                #expect(try await database.number("select count(*) from evil.\(table)") == 0)
            }
            // The statements above must have called every function that runs with its owner's rights.
            try await database.query("select pg_stat_force_next_flush()")
            try await waitUntil("the server has counted the calls") {
                let missing = try await database.texts(
                    """
                    select p.oid::regprocedure::text from pg_proc p
                     where p.pronamespace = 'breakwater'::regnamespace and p.prosecdef and p.proname <> 'wake_for_inserted'
                       and not exists (select from pg_stat_user_functions s where s.funcid = p.oid and s.calls > 0)
                     order by 1
                    """
                )
                if !missing.isEmpty { print("not called under attack: \(missing)") }
                return missing.isEmpty
            }
        }
    }
}
