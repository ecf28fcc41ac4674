-- The fleet's maintenance: chores that one worker, the leader, does for all workers.

-- The chores, in the order in which they are done.
create function breakwater.chores() returns text[]
language sql immutable set search_path = pg_catalog, pg_temp
as $$
    select array['check_sequences', 'record_horizon', 'promote', 'run_schedules', 'rescue', 'follow_cancel_requests',
                 'dead_letter_poison', 'advance_circuits', 'charge_probes', 'return_test_shots', 'apply_fallbacks',
                 'unpark', 'check_new_dependencies', 'check_dependants', 'free_forgotten_keys', 'adapt_limits',
                 'return_stranded', 'measure_incidents', 'aggregate_rates', 'prune_calls', 'prune_results', 'prune_circuits',
                 'prune_workers', 'prune_progress', 'prune_history', 'keep_history', 'forget_sleepers']
$$;

-- Does one chore, in a bounded portion. Returns how many jobs or circuits it moved, or null for chores that report no
-- number.
create function breakwater.do_chore(p_chore text) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    case p_chore
        when 'check_sequences' then perform breakwater.check_sequences();
        when 'record_horizon' then perform breakwater.record_horizon();
        when 'promote' then return breakwater.promote(1000);
        when 'run_schedules' then return breakwater.run_schedules(100);
        when 'rescue' then return breakwater.rescue();
        when 'follow_cancel_requests' then perform breakwater.follow_cancel_requests(1000);
        when 'dead_letter_poison' then perform breakwater.dead_letter_poison(1000);
        when 'advance_circuits' then return breakwater.advance_circuits() + breakwater.close_idle_circuits();
        when 'charge_probes' then perform breakwater.charge_probes(1000);
        when 'return_test_shots' then perform breakwater.return_test_shots();
        when 'apply_fallbacks' then return breakwater.apply_fallbacks(1000);
        when 'unpark' then return breakwater.unpark(1000);
        when 'check_new_dependencies' then perform breakwater.check_new_dependencies(1000);
        when 'check_dependants' then return breakwater.check_dependants(1000);
        when 'adapt_limits' then perform breakwater.adapt_limits();
        when 'free_forgotten_keys' then return breakwater.free_forgotten_keys(1000);
        when 'return_stranded' then return breakwater.return_stranded(1000, 0.05);
        when 'measure_incidents' then perform breakwater.measure_incidents(5);
        when 'aggregate_rates' then perform breakwater.aggregate_rates();
        when 'prune_calls' then perform breakwater.prune_calls(1000);
        when 'prune_results' then perform breakwater.prune_results(1000);
        when 'prune_circuits' then perform breakwater.prune_circuits(1000);
        when 'prune_workers' then perform breakwater.prune_workers();
        when 'prune_progress' then perform breakwater.prune_progress(1000);
        when 'prune_history' then
            perform breakwater.prune_history(1000);
            perform breakwater.prune_endpoint_notices(1000);
        when 'keep_history' then
            perform breakwater.add_history_days();
            perform breakwater.drop_history(1) where random() < 0.02;
        when 'forget_sleepers' then perform breakwater.forget_sleepers();
    end case;
    return null;
end
$$;

-- Whether the session's role may vacuum the table of jobs: as its owner or, from PostgreSQL 17 on, by a privilege.
create function breakwater.may_vacuum() returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select case when pg_has_role(r.name, c.relowner, 'usage') then true
                when current_setting('server_version_num')::integer < 170000 then false
                else has_table_privilege(r.name, c.oid, 'maintain') end
      from pg_class c
     cross join (select coalesce(nullif(current_setting('role'), 'none'), session_user)::name as name) r
     where c.oid = 'breakwater.job'::regclass
$$;

-- Does chores, if this worker leads. A follower gets `leads` false, and takes over once the leader has been silent for
-- p_seconds. A leader whose term has expired does nothing. Every chore may safely run twice at the same time.
--
-- The chores are independent. If one fails, or waits for a lock for longer than two seconds, it is rolled back and
-- named in `failed`, with the reason in `reasons`, and the others continue. A worker may pass one chore to each call,
-- so that the work of a chore is committed before the next one may have to wait.
--
-- `next_due` is the number of seconds until the next job that waits for its time is due, or the next slot of a
-- schedule, if there is one. `dead_rows` and `live_rows` are those of the table of jobs, by the server's statistics;
-- they are null if the session's role may not vacuum it.
create function breakwater.maintain(
    p_worker bigint, p_seconds double precision, p_chores text[] default breakwater.chores(),
    out leads boolean, out promoted integer, out rescued integer, out advanced integer, out fell_back integer,
    out unparked integer, out scheduled integer, out next_due double precision, out dead_rows bigint,
    out live_rows bigint, out failed text[], out reasons text[]
)
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '2s'
as $$
declare
    v_chore  text;
    v_count  integer;
    v_reason text;
    v_state  text;
begin
    failed := '{}';
    reasons := '{}';
    leads := breakwater.lead(p_worker, p_seconds) is not null;
    if not leads then
        return;
    end if;
    foreach v_chore in array p_chores loop
        begin
            v_count := breakwater.do_chore(v_chore);
            case v_chore
                when 'promote' then
                    promoted := v_count;
                    next_due := least(next_due, breakwater.seconds_to_next_due());
                when 'run_schedules' then
                    scheduled := v_count;
                    next_due := least(next_due, breakwater.seconds_to_next_slot());
                when 'rescue' then rescued := v_count;
                when 'advance_circuits' then advanced := v_count;
                when 'apply_fallbacks' then fell_back := v_count;
                when 'unpark', 'check_dependants', 'free_forgotten_keys', 'return_stranded' then
                    unparked := coalesce(unparked, 0) + v_count;
                else null;
            end case;
        exception when others then
            get stacked diagnostics v_reason = message_text, v_state = returned_sqlstate;
            failed := failed || v_chore;
            reasons := reasons || format('%s (SQLSTATE %s)', v_reason, v_state);
        end;
    end loop;
    begin
        if breakwater.may_vacuum() then
            dead_rows := pg_stat_get_dead_tuples('breakwater.job'::regclass);
            live_rows := pg_stat_get_live_tuples('breakwater.job'::regclass);
        end if;
    exception when others then
        -- The session's role may have been dropped.
        null;
    end;
end
$$;
