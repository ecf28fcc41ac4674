-- Workers come, beat, lead and go; the jobs of those that stopped beating are given back.

-- Registers a worker and the rules of its handlers, and returns the worker's id.
--
-- `p_handlers` is an array of objects with the columns of `breakwater.handler`. Each kind gets its circuit, closed, if it
-- had none.
create function breakwater.register(
    p_name text, p_version text, p_queues text[], p_concurrency integer, p_lease double precision, p_handlers jsonb
) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_worker   bigint;
    v_handlers jsonb := (select jsonb_agg(h || jsonb_build_object('updated_at', now()))
                           from jsonb_array_elements(p_handlers) h);
begin
    perform breakwater.refuse_row_security();
    -- In the order of kinds, so that workers that start together wait for each other in one order.
    insert into breakwater.handler
    select h.* from jsonb_populate_recordset(null::breakwater.handler, v_handlers) h order by h.kind
    on conflict (kind) do update
       set (timeout, max_attempts, max_age, retry_budget, keep_results, circuit_enabled, failure_rate, slow_rate,
            circuit_window, window_calls, minimum_calls, consecutive_failures, open_for, open_factor, open_cap,
            half_open_for, probes, successes_to_close, ramp, suspends_workers, shared_key, key_path, fallback,
            fallback_result, fallback_kind, updated_at)
         = (excluded.timeout, excluded.max_attempts, excluded.max_age, excluded.retry_budget, excluded.keep_results,
            excluded.circuit_enabled, excluded.failure_rate, excluded.slow_rate, excluded.circuit_window,
            excluded.window_calls, excluded.minimum_calls, excluded.consecutive_failures, excluded.open_for,
            excluded.open_factor, excluded.open_cap, excluded.half_open_for, excluded.probes,
            excluded.successes_to_close, excluded.ramp, excluded.suspends_workers, excluded.shared_key,
            excluded.key_path, excluded.fallback, excluded.fallback_result, excluded.fallback_kind, now());
    perform breakwater.refuse_reroute_cycles(array(select h ->> 'kind' from jsonb_array_elements(v_handlers) h));

    insert into breakwater.circuit (kind, key)
    select h.kind, '' from jsonb_populate_recordset(null::breakwater.handler, v_handlers) h
    union
    select '*', h.shared_key from jsonb_populate_recordset(null::breakwater.handler, v_handlers) h
     where h.shared_key is not null
     order by 1, 2
    on conflict do nothing;

    insert into breakwater.lane (queue, kind, priority)
    select q.name, k.name, p.priority
      from unnest(p_queues) q(name)
     cross join (select h ->> 'kind' as name from jsonb_array_elements(v_handlers) h) k
     cross join generate_series(0, 9) p(priority)
     where not exists (select from breakwater.lane a
                        where a.queue = q.name collate "C" and a.kind = k.name collate "C" and a.priority = p.priority)
     order by 1, 2, 3
    on conflict do nothing;

    insert into breakwater.worker (name, version, queues, kinds, concurrency, lease)
    values (p_name, p_version, p_queues,
            array(select h.kind from jsonb_populate_recordset(null::breakwater.handler, v_handlers) h order by h.kind),
            p_concurrency, make_interval(secs => p_lease))
    returning worker.id into v_worker;
    return v_worker;
end
$$;

-- A worker's sign of life. `alive` is false when its jobs have been given to others: it must drop them and register
-- anew. `stopped` are the kinds of which nothing may start that was claimed under a circuit's generation before the one
-- in `generations`: those whose circuit is not closed, and (with the highest number) those that are paused, or suspended for this
-- worker, or all of a worker that somebody drained.
-- `hosts` tells it to make itself free for a suspect, which must run alone; `alone`, that no other worker takes its jobs.
create function breakwater.beat(
    p_worker bigint, p_state text, p_running integer, p_unresponsive integer, out alive boolean, out stopped text[], out generations bigint[],
    out hosts boolean, out alone boolean
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update breakwater.worker w
       set beat_at = now(), running = p_running, unresponsive = p_unresponsive,
           state = case when w.drain_reason is null then p_state else 'draining' end
     where w.id = p_worker;
    alive := found;
    select coalesce(array_agg(s.kind), '{}'), coalesce(array_agg(s.generation), '{}') into stopped, generations
      from (select h.kind, c.generation
              from breakwater.circuit c
              join breakwater.handler h on (c.kind = h.kind and c.key = '' and h.shared_key is null)
                                        or (c.kind = '*' and c.key = h.shared_key)
             where c.state <> 'closed'
            union all
            select s.kind, 9223372036854775807 from breakwater.suspension s
             where s.worker = p_worker and s.until > breakwater.clock() and s.key = ''
            union all
            select p.name, 9223372036854775807 from breakwater.pause p where p.scope = 'kind'
            union all
            select unnest(w.kinds), 9223372036854775807 from breakwater.worker w
             where w.id = p_worker and w.drain_reason is not null) s;
    -- Whoever has the table of jobs locked holds up the work, but takes no worker's jobs away.
    begin
        hosts := alive and breakwater.should_host(p_worker, p_running);
    exception when lock_not_available then
        hosts := false;
    end;
    alone := alive and not exists (
        select from breakwater.worker w
          join breakwater.worker o on o.id <> w.id and o.queues && w.queues and o.kinds && w.kinds
         where w.id = p_worker and o.state = 'running' and o.beat_at > now() - o.lease);
end
$$;

-- Gives back the jobs of workers that have been silent for longer than their lease. Returns how many.
-- Locks: the dead worker's row, which its own late beat would need, so a worker is either rescued or alive.
create function breakwater.rescue() returns integer
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '500ms'
as $$
declare
    v_lost  breakwater.worker;
    v_dead  bigint;
    v_jobs  bigint[];
    v_count integer := 0;
begin
    for v_lost in
        select * from breakwater.worker w where w.beat_at < now() - w.lease for update skip locked
    loop
        -- A worker whose jobs cannot be given back now, since somebody has one of them locked, hinders no other.
        begin
            -- A worker that lives comes back within that time, even over a network that was silent for some leases.
            v_jobs := breakwater.release_claims(v_lost.id, '{}', 5 * v_lost.lease);
            v_count := v_count + cardinality(v_jobs);
            insert into breakwater.lost_worker (worker, name, beat_at, jobs)
            values (v_lost.id, v_lost.name, v_lost.beat_at, v_jobs);
            perform breakwater.strike_off(v_lost.id);
        exception when others then
            raise warning 'the jobs of the lost worker % (%) cannot be given back now: %', v_lost.id, v_lost.name, sqlerrm;
        end;
    end loop;
    -- A claim may commit after its worker was struck off: it was under way, and nobody could see it then.
    for v_dead in
        select w from breakwater.workers_with_claims() w
         where w <> 0 and not exists (select from breakwater.worker a where a.id = w)
    loop
        v_count := v_count + cardinality(breakwater.release_claims(v_dead, '{}', null));
        perform breakwater.strike_off(v_dead);
    end loop;
    return v_count;
end
$$;

-- The workers that have claims, in leaps along the index, each to the newest claim of the next one.
create function breakwater.workers_with_claims() returns setof bigint
language sql stable set search_path = pg_catalog, pg_temp set enable_seqscan = off set enable_bitmapscan = off set jit = off
as $$
    with recursive w as (
        (select c.worker from breakwater.claim c order by c.worker desc, c.lease desc limit 1)
        union all
        select n.worker from w cross join lateral (
            select c.worker from breakwater.claim c
             where c.worker < w.worker order by c.worker desc, c.lease desc limit 1) n
    )
    select worker from w
$$;

-- Makes ready again what a worker still holds, but for the claims it is known to be working on, and returns the jobs. No
-- attempt is spent. `p_crash` is null, or the worker was lost: this counts against all of them, and an accused one is heard
-- for so long.
create function breakwater.release_claims(p_worker bigint, p_known bigint[], p_crash interval) returns bigint[]
language plpgsql set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_claim   breakwater.claim;
    v_job     record;
    v_crashes integer;
    v_jobs    bigint[] := '{}';
    v_kinds   text[] := '{}';
begin
    for v_claim in
        select * from breakwater.claim c where c.worker = p_worker and c.lease <> all (p_known)
    loop
        for v_job in
            select j.id, j.kind, j.attempt, j.crashes from breakwater.job j
             where j.id = any (v_claim.jobs) and j.lease < v_claim.lease
               for update
        loop
            v_crashes := v_job.crashes + (p_crash is not null)::integer;
            update breakwater.job j
               set lease = v_claim.lease, moved_from = null, parked = null, ready_at = now(), crashes = v_crashes,
                   run_at = breakwater.run_at_after(v_crashes, p_crash),
                   position = nextval('breakwater.job_position')
             where j.id = v_job.id;
            perform breakwater.tell_run(v_job.id, case when p_crash is null then 'released' else 'rescued' end, p_worker,
                                        v_job.attempt + 1, case when p_crash is not null then 'worker.lost' end, null);
            v_jobs := v_jobs || v_job.id;
            if v_job.kind <> all (v_kinds) then
                v_kinds := v_kinds || v_job.kind;
            end if;
        end loop;
        delete from breakwater.probe p where p.job = any (v_claim.jobs) and p.lease = v_claim.lease;
        perform breakwater.close_claims(p_worker, array[v_claim.lease]);
    end loop;
    perform breakwater.wake(v_kinds);
    return v_jobs;
end
$$;

-- Forgets a worker whose claims were released. Those of them that say where a lane's next claim begins are nobody's then.
-- A claim that was under way and has committed since is left to rescue(), which finds it by its worker.
create function breakwater.strike_off(p_worker bigint) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
    update breakwater.claim c set worker = 0 where c.worker = p_worker and c.jobs = '{}';
    delete from breakwater.worker w where w.id = p_worker;
    select breakwater.awake(p_worker)
$$;

-- After a connection was lost with a claim unanswered: gives back what was claimed and never heard of. `p_known` are the
-- claims whose jobs the worker has.
create function breakwater.reconcile(p_worker bigint, p_known bigint[]) returns integer
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select cardinality(breakwater.release_claims(p_worker, p_known, null)) $$;

-- A worker's goodbye: gives back whatever it still holds, unspent, and strikes it off.
create function breakwater.leave(p_worker bigint) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_count integer;
begin
    v_count := cardinality(breakwater.release_claims(p_worker, '{}', null));
    perform breakwater.strike_off(p_worker);
    update breakwater.leader l set expires_at = now() where l.worker = p_worker;
    perform breakwater.forget_sleepers();
    return v_count;
end
$$;
