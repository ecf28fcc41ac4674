-- Workers register, send heartbeats, lead and leave. The jobs of workers whose heartbeats stopped are given back.

-- Registers a worker and the rules of its handlers, and returns the worker's id.
--
-- `p_handlers` is an array of objects with the columns of `breakwater.handler`. Each kind gets its circuit, closed, if
-- it had none.
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
    -- The kinds are in order, so that workers that start together wait for each other in one order.
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
    perform breakwater.add_circuits_and_lanes(v_handlers, p_queues);

    insert into breakwater.worker (name, version, queues, kinds, concurrency, lease)
    values (p_name, p_version, p_queues,
            array(select h.kind from jsonb_populate_recordset(null::breakwater.handler, v_handlers) h order by h.kind),
            p_concurrency, make_interval(secs => p_lease))
    returning worker.id into v_worker;
    return v_worker;
end
$$;

-- Handlers as a worker gives them, with the time of their registration.
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

-- Whether all rows that a worker's registration wrote are still there. A user may have deleted some.
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

-- Puts back the rows of a worker's registration that are missing. Policies that are there stay as they are: another
-- worker may have registered newer ones.
create function breakwater.renew_registration(p_worker bigint, p_handlers jsonb) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_handlers jsonb := breakwater.handlers_as_of_now(p_handlers);
begin
    insert into breakwater.handler
    select h.* from jsonb_populate_recordset(null::breakwater.handler, v_handlers) h order by h.kind
    on conflict (kind) do nothing;
    perform breakwater.add_circuits_and_lanes(
        v_handlers, (select w.queues from breakwater.worker w where w.id = p_worker));
end
$$;

-- A worker's heartbeat. `alive` is false if its jobs have been given to others: then the worker must drop them and
-- register again. `stopped` and `generations` are its stopped kinds (see stopped_kinds).
-- `hosts` is true if the worker should make itself free for suspects, which run apart from others. `is_sole` is true if
-- no other worker takes any of its jobs.
-- `registered` is false if rows of its registration are missing: then the worker must renew it.
create function breakwater.beat(
    p_worker bigint, p_state text, p_running integer, p_unresponsive integer, out alive boolean, out stopped text[], out generations bigint[],
    out hosts boolean, out is_sole boolean, out registered boolean
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
    -- A session that has locked the table of jobs holds up the work, but must not make a worker lose its jobs.
    begin
        hosts := alive and breakwater.should_host(p_worker, p_running);
    exception when lock_not_available then
        hosts := false;
    end;
    is_sole := alive and not exists (
        select from breakwater.worker w
          join breakwater.active_worker o on o.id <> w.id and o.queues && w.queues and o.kinds && w.kinds
         where w.id = p_worker);
end
$$;

-- Records an absence if the database has heard of no worker for more than two seconds. A leader is heard of each
-- second.
--
-- Whatever is to be heard of calls this first. The first second counts as silence in any case: a worker that goes on
-- without the database leaves two seconds out of its own account (see Lease.swift).
create function breakwater.record_absence() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_heard timestamptz := greatest((select max(w.beat_at) from breakwater.worker w),
                                    (select l.renewed_at from breakwater.leader l));
begin
    if v_heard < now() - interval '2 seconds' then
        insert into breakwater.absence (began_at, ended_at) values (v_heard + interval '1 second', now())
        on conflict do nothing;
    end if;
end
$$;

-- For how long a worker has been silent while the database could have heard it.
create function breakwater.silence(p_beat_at timestamptz) returns interval
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select now() - p_beat_at - coalesce(sum(a.ended_at - greatest(a.began_at, p_beat_at)), interval '0')
      from breakwater.absence a where a.ended_at > p_beat_at
$$;

-- Gives back the jobs of workers that have been silent for longer than their lease. Returns how many.
-- Locks: the dead worker's row, which its own late heartbeat would need, so a worker is either rescued or alive.
create function breakwater.rescue() returns integer
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '500ms'
as $$
declare
    v_lost    breakwater.worker;
    v_jobs    bigint[];
    v_count   integer := 0;
    v_orphans integer;
begin
    for v_lost in
        select * from breakwater.worker w
         -- The first condition follows from the second, and costs nothing for the many that are alive.
         where w.beat_at < now() - w.lease and breakwater.silence(w.beat_at) > w.lease
           for update skip locked
    loop
        -- If one worker cannot be struck off now, the others still are.
        begin
            -- A worker that is alive comes back within that time, even after a network was silent for some leases.
            v_jobs := breakwater.release_claims(v_lost.id, '{}', 5 * v_lost.lease);
            v_count := v_count + cardinality(v_jobs);
            insert into breakwater.lost_worker (worker, name, beat_at, jobs)
            values (v_lost.id, v_lost.name, v_lost.beat_at, v_jobs)
            on conflict (worker) do update
               set name = excluded.name, beat_at = excluded.beat_at, lost_at = now(), jobs = excluded.jobs,
                   survived = false;
            perform breakwater.strike_off(v_lost.id);
            raise notice 'the worker % (%) was silent for % s, longer than its lease; its % jobs were given back', v_lost.name,
                v_lost.id, round(extract(epoch from breakwater.silence(v_lost.beat_at)), 1), cardinality(v_jobs)
                using errcode = 'BW005', detail = jsonb_build_object(
                    'worker', v_lost.id, 'name', v_lost.name, 'jobs', cardinality(v_jobs), 'beat_at', v_lost.beat_at);
        exception when others then
            raise warning 'the jobs of the lost worker % (%) cannot be given back now: %', v_lost.id, v_lost.name, sqlerrm;
        end;
    end loop;
    -- A claim that was under way, and not visible yet, may commit after its worker was struck off.
    v_orphans := breakwater.release_orphans();
    if v_orphans > 0 then
        raise notice '% jobs of claims without a worker were given back', v_orphans
            using errcode = 'BW005', detail = jsonb_build_object('jobs', v_orphans);
    end if;
    return v_count + v_orphans;
end
$$;

-- The workers that have claims. It leaps along the index, each time to the newest claim of the next worker.
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

-- Makes the jobs ready again that a worker still holds, except those of the claims in `p_known`, and returns them. No
-- attempt is spent. If the worker was lost, `p_crash` is not null: the loss counts against the jobs (see release_jobs),
-- and `p_crash` is how long an accused job waits for its worker to come back.
create function breakwater.release_claims(p_worker bigint, p_known bigint[], p_crash interval) returns bigint[]
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_claim breakwater.claim;
    v_jobs  bigint[] := '{}';
    v_stuck bigint[];
    v_group integer;
begin
    for v_claim in
        select * from breakwater.claim c where c.worker = p_worker and c.lease <> all (p_known)
    loop
        begin
            v_group := breakwater.suspects_left(v_claim);
            v_jobs := v_jobs || breakwater.release_jobs(v_claim, v_claim.jobs, p_crash, v_group);
            perform breakwater.close_claims(p_worker, array[v_claim.lease]);
        exception when others then
            -- One of the jobs cannot be given back, so each is given back by itself. Each may have to wait for another
            -- session's lock, so after five failures the rest is left, and comes first in the next round.
            v_stuck := '{}';
            for i in 1 .. cardinality(v_claim.jobs) loop
                begin
                    v_jobs := v_jobs || breakwater.release_jobs(v_claim, v_claim.jobs[i:i], p_crash, v_group);
                exception when others then
                    v_stuck := v_stuck || v_claim.jobs[i];
                    raise warning 'job % cannot be given back now: %', v_claim.jobs[i], sqlerrm;
                    if cardinality(v_stuck) = 5 then
                        v_stuck := v_claim.jobs[i + 1:] || v_stuck;
                        exit;
                    end if;
                end;
            end loop;
            update breakwater.claim c set jobs = v_stuck where c.lease = v_claim.lease;
            if v_stuck = '{}' then
                perform breakwater.close_claims(p_worker, array[v_claim.lease]);
            end if;
        end;
    end loop;
    return v_jobs;
end
$$;

-- How many suspects a claim of suspects still holds; 0 for any other claim.
create function breakwater.suspects_left(p_claim breakwater.claim) returns integer
language sql stable set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
    select count(*)::integer from breakwater.job j
     where p_claim.lane is null and j.id = any (p_claim.jobs) and j.lease < p_claim.lease and j.crashes >= 2
$$;

-- Gives back those of some jobs that a claim holds, and notifies the sleeping workers that could run them. Returns the
-- jobs. If the worker of a group of p_group suspects was lost, no suspect is accused: each half of the group runs
-- again.
create function breakwater.release_jobs(
    p_claim breakwater.claim, p_jobs bigint[], p_crash interval, p_group integer
) returns bigint[]
language plpgsql set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_job     record;
    v_crashes integer;
    v_jobs    bigint[] := '{}';
    v_kinds   text[] := '{}';
begin
    for v_job in
        select j.id, j.kind, j.attempt, j.crashes from breakwater.job j
         where j.id = any (p_jobs) and j.lease < p_claim.lease
           for update
    loop
        v_crashes := v_job.crashes + (p_crash is not null and p_group <= 1)::integer;
        update breakwater.job j
           set lease = p_claim.lease, moved_from = null, parked = null, ready_at = now(), crashes = v_crashes,
               suspect_group = case when p_crash is not null and p_group > 1 then (p_group + 1) / 2 else j.suspect_group end,
               run_at = breakwater.run_at_after(v_crashes, p_crash),
               position = nextval('breakwater.job_position')
         where j.id = v_job.id;
        perform breakwater.record_run(v_job.id, case when p_crash is null then 'released' else 'rescued' end, p_claim.worker,
                                    v_job.attempt + 1, case when p_crash is not null then 'worker.lost' end, null);
        v_jobs := v_jobs || v_job.id;
        if v_job.kind <> all (v_kinds) then
            v_kinds := v_kinds || v_job.kind;
        end if;
    end loop;
    delete from breakwater.probe p where p.job = any (p_jobs) and p.lease = p_claim.lease;
    perform breakwater.wake(v_kinds);
    return v_jobs;
end
$$;

-- Forgets a worker whose claims were released. Claims that say where a lane's next claim begins are given to worker 0.
-- A claim that was under way and has committed since is left to rescue(), which finds it by its worker.
create function breakwater.strike_off(p_worker bigint) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
    update breakwater.claim c set worker = 0 where c.worker = p_worker and c.jobs = '{}';
    delete from breakwater.worker w where w.id = p_worker;
    select breakwater.stop_sleeping(p_worker)
$$;

-- Gives back the jobs that were claimed but never reached their worker, after it lost a connection before a claim was
-- answered. `p_known` are the claims whose jobs the worker has.
create function breakwater.reconcile(p_worker bigint, p_known bigint[]) returns integer
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select cardinality(breakwater.release_claims(p_worker, p_known, null)) $$;

-- Ends a worker: gives back the jobs that it still holds, with no attempt spent, and strikes it off.
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
