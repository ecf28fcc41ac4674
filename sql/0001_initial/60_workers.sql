-- The registration and the heartbeats of workers.

-- Registers a worker and the settings of its handlers, and returns the worker's id.
--
-- `p_handlers` is an array of objects with the columns of `breakwater.handler`. Each kind gets a closed circuit if it
-- had none.
create function breakwater.register(
    p_name text, p_version text, p_queues text[], p_concurrency integer, p_lease double precision, p_handlers jsonb
) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_worker   bigint;
    v_handlers jsonb := breakwater.handlers_as_of_now(p_handlers);
begin
    perform breakwater.refuse_row_security();
    perform breakwater.check_sequences();
    perform breakwater.record_absence();
    if breakwater.brings_rules(v_handlers) then
        perform breakwater.lock_changes_of_rules();
    end if;
    -- The kinds are sorted, so that workers that start together lock the rows in the same order.
    insert into breakwater.handler
    select h.* from jsonb_populate_recordset(null::breakwater.handler, v_handlers) h order by h.kind
    on conflict (kind) do update
       set (timeout, max_attempts, max_age, retry_budget, keep_results, circuit_enabled, failure_rate, slow_rate,
            circuit_window, window_calls, minimum_calls, consecutive_failures, open_for, open_factor, open_cap,
            half_open_for, probes, successes_to_close, ramp, suspends_workers, shared_key, key_path, fallback,
            fallback_result, fallback_kind, updated_at, writes_history, history_keep, history_payload, history_key)
         = (excluded.timeout, excluded.max_attempts, excluded.max_age, excluded.retry_budget, excluded.keep_results,
            excluded.circuit_enabled, excluded.failure_rate, excluded.slow_rate, excluded.circuit_window,
            excluded.window_calls, excluded.minimum_calls, excluded.consecutive_failures, excluded.open_for,
            excluded.open_factor, excluded.open_cap, excluded.half_open_for, excluded.probes,
            excluded.successes_to_close, excluded.ramp, excluded.suspends_workers, excluded.shared_key,
            excluded.key_path, excluded.fallback, excluded.fallback_result, excluded.fallback_kind, now(),
            excluded.writes_history, coalesce(excluded.history_keep, handler.history_keep), excluded.history_payload,
            excluded.history_key);
    perform breakwater.add_history_days();
    perform breakwater.refuse_reroute_cycles(array(select h ->> 'kind' from jsonb_array_elements(v_handlers) h));
    perform breakwater.add_circuits_and_lanes(v_handlers, p_queues);
    perform breakwater.configure_rules(v_handlers);

    insert into breakwater.worker (name, version, queues, kinds, concurrency, lease)
    values (p_name, p_version, p_queues,
            array(select h.kind from jsonb_populate_recordset(null::breakwater.handler, v_handlers) h order by h.kind),
            p_concurrency, make_interval(secs => p_lease))
    returning worker.id into v_worker;
    return v_worker;
end
$$;

-- The handlers that a worker gives, with the time of their registration.
create function breakwater.handlers_as_of_now(p_handlers jsonb) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$ select jsonb_agg(h || jsonb_build_object('updated_at', now())) from jsonb_array_elements(p_handlers) h $$;

-- Adds the circuits and lanes of some handlers that are missing.
--
-- Claims may still hold jobs of a lane whose row a user deleted. The new lane begins above those jobs, or else they
-- would be claimed a second time. Jobs that wait below them are found by breakwater.return_stranded.
create function breakwater.add_circuits_and_lanes(p_handlers jsonb, p_queues text[]) returns void
language sql set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
    insert into breakwater.circuit (kind, key)
    select h.kind, '' from jsonb_populate_recordset(null::breakwater.handler, p_handlers) h
    union
    select '*', h.shared_key from jsonb_populate_recordset(null::breakwater.handler, p_handlers) h
     where h.shared_key is not null
     order by 1, 2
    on conflict do nothing;

    with held as materialized (
        select j.queue, j.kind, j.priority, max(j.position) as last
          from breakwater.held d join breakwater.job j on j.id = d.job
         where d.lane is not null and not exists (select from breakwater.lane a where a.id = d.lane)
         group by j.queue, j.kind, j.priority
    )
    insert into breakwater.lane (queue, kind, priority, floor)
    select q.name, k.name, p.priority, coalesce(d.last, -9223372036854775808)
      from unnest(p_queues) q(name)
     cross join (select h ->> 'kind' as name from jsonb_array_elements(p_handlers) h) k
     cross join generate_series(0, 9) p(priority)
      left join held d on d.queue = q.name collate "C" and d.kind = k.name collate "C" and d.priority = p.priority
     where not exists (select from breakwater.lane a
                        where a.queue = q.name collate "C" and a.kind = k.name collate "C" and a.priority = p.priority)
     order by 1, 2, 3
    on conflict do nothing;
$$;

-- Whether all rows that a worker's registration wrote still exist. A user may have deleted some.
create function breakwater.is_registered(p_worker bigint) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select not exists (
        select from breakwater.worker w
         cross join unnest(w.kinds) k(kind)
          left join breakwater.handler h on h.kind = k.kind
         where w.id = p_worker
           and (h.kind is null
                or not exists (select from breakwater.circuit c where c.kind = k.kind and c.key = '')
                or (h.shared_key is not null
                    and not exists (select from breakwater.circuit c where c.kind = '*' and c.key = h.shared_key))
                or (select count(*) from breakwater.lane a where a.queue = any (w.queues) and a.kind = k.kind)
                   < 10 * (select count(distinct q) from unnest(w.queues) q)))
$$;

-- Restores the missing rows of a worker's registration. Existing policies are not changed, because another worker may
-- have registered newer ones.
create function breakwater.renew_registration(p_worker bigint, p_handlers jsonb) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_handlers jsonb := breakwater.handlers_as_of_now(p_handlers);
begin
    if breakwater.brings_rules(v_handlers) then
        perform breakwater.lock_changes_of_rules();
    end if;
    insert into breakwater.handler
    select h.* from jsonb_populate_recordset(null::breakwater.handler, v_handlers) h order by h.kind
    on conflict (kind) do nothing;
    perform breakwater.add_circuits_and_lanes(
        v_handlers, (select w.queues from breakwater.worker w where w.id = p_worker));
    perform breakwater.configure_rules(v_handlers, true);
end
$$;

-- A worker's heartbeat. `alive` is false if its jobs have been released to others. In that case the worker must drop
-- them and register again. `stopped` and `generations` are its stopped kinds (see stopped_kinds).
-- `hosts` is true if the worker should stop claiming other jobs in order to run suspects, which run apart from others.
-- `is_sole` is true if no other worker claims any of its jobs.
-- `cancelled` and `cancelled_leases` are the jobs that it is asked to cancel (see cancel_requests).
-- `registered` is false if rows of its registration are missing. In that case the worker must renew it.
create function breakwater.beat(
    p_worker bigint, p_state text, p_running integer, p_unresponsive integer, out alive boolean, out stopped text[],
    out generations bigint[], out hosts boolean, out is_sole boolean, out registered boolean, out cancelled bigint[],
    out cancelled_leases bigint[]
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform breakwater.record_absence();
    update breakwater.worker w
       set beat_at = now(), running = p_running, unresponsive = p_unresponsive,
           state = case when w.drain_reason is null then p_state else 'draining' end
     where w.id = p_worker;
    alive := found;
    select s.kinds, s.generations into stopped, generations from breakwater.stopped_kinds(p_worker) s;
    registered := breakwater.is_registered(p_worker);
    select c.jobs, c.leases into cancelled, cancelled_leases from breakwater.cancel_requests(p_worker) c;
    -- A session that has locked the table of jobs blocks the work, but must not make a worker lose its jobs.
    begin
        hosts := alive and breakwater.should_run_suspects(p_worker, p_running);
    exception when lock_not_available then
        hosts := false;
    end;
    is_sole := alive and not exists (
        select from breakwater.worker w
          join breakwater.active_worker o on o.id <> w.id and o.queues && w.queues and o.kinds && w.kinds
         where w.id = p_worker);
end
$$;
