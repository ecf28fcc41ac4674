-- Rescue: the jobs of workers that are lost, that leave, or that did not receive the answer to a claim are released.

-- Records an absence if the database has received nothing from any worker for more than two seconds. A leader sends
-- something each second.
--
-- Every function that counts as a sign of life calls this first. The first second always counts as silence. A worker
-- that continues without the database therefore does not use the first two seconds (see Lease.swift).
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

-- How long a worker has been silent, without the times in which the database could not receive its heartbeats.
create function breakwater.silence(p_beat_at timestamptz) returns interval
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select now() - p_beat_at - coalesce(sum(a.ended_at - greatest(a.began_at, p_beat_at)), interval '0')
      from breakwater.absence a where a.ended_at > p_beat_at
$$;

-- Releases the jobs of workers that have been silent for longer than their lease. Returns how many.
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
         -- The first condition follows from the second, and is cheap for the many workers that are alive.
         where w.beat_at < now() - w.lease and breakwater.silence(w.beat_at) > w.lease
           for update skip locked
    loop
        -- If one worker cannot be deregistered now, the others still are.
        begin
            -- A worker that is alive registers again within this time, even after a network outage of several leases.
            v_jobs := breakwater.release_claims(v_lost.id, '{}', 5 * v_lost.lease);
            v_count := v_count + cardinality(v_jobs);
            insert into breakwater.lost_worker (worker, name, beat_at, jobs)
            values (v_lost.id, v_lost.name, v_lost.beat_at, v_jobs)
            on conflict (worker) do update
               set name = excluded.name, beat_at = excluded.beat_at, lost_at = now(), jobs = excluded.jobs,
                   survived = false;
            perform breakwater.deregister_worker(v_lost.id);
            raise notice 'the worker % (%) was silent for % s, longer than its lease; its % jobs were given back', v_lost.name,
                v_lost.id, round(extract(epoch from breakwater.silence(v_lost.beat_at)), 1), cardinality(v_jobs)
                using errcode = 'BW005', detail = jsonb_build_object(
                    'worker', v_lost.id, 'name', v_lost.name, 'jobs', cardinality(v_jobs), 'beat_at', v_lost.beat_at);
        exception when others then
            raise warning 'the jobs of the lost worker % (%) cannot be given back now: %', v_lost.id, v_lost.name, sqlerrm;
        end;
    end loop;
    -- A claim that was in progress and not visible yet may commit after its worker was deregistered.
    v_orphans := breakwater.release_orphans();
    if v_orphans > 0 then
        raise notice '% jobs of claims without a worker were given back', v_orphans
            using errcode = 'BW005', detail = jsonb_build_object('jobs', v_orphans);
    end if;
    return v_count + v_orphans;
end
$$;

-- The workers that have claims. It skips along the index, each time to the newest claim of the next worker.
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
            -- One of the jobs cannot be released, so each is released by itself. Each may have to wait for another
            -- session's lock, so after five failures the rest is left for the next round, in which it comes first.
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
            update breakwater.claim c set jobs = v_stuck, rules = null, keys = null where c.lease = v_claim.lease;
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

-- Releases those of some jobs that a claim holds, and notifies the sleeping workers that could run them. Returns the
-- jobs. Those that a user has cancelled become dead letters instead. If the worker of a group of p_group suspects was
-- lost, no suspect is accused: each half of the group runs again.
create function breakwater.release_jobs(
    p_claim breakwater.claim, p_jobs bigint[], p_crash interval, p_group integer
) returns bigint[]
language plpgsql set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_job       record;
    v_crashes   integer;
    v_jobs      bigint[] := '{}';
    v_cancelled bigint[] := '{}';
    v_kinds     text[] := '{}';
begin
    for v_job in
        select j.id, j.kind, j.attempt, j.crashes, j.errors from breakwater.job j
         where j.id = any (p_jobs) and j.lease < p_claim.lease
           for update
    loop
        if exists (select from breakwater.cancel_request c where c.job = v_job.id and c.lease = p_claim.lease) then
            perform breakwater.dead_letter_cancelled(
                v_job.id, p_claim.lease, p_claim.worker, v_job.attempt + 1, v_job.errors);
            v_cancelled := v_cancelled || v_job.id;
            continue;
        end if;
        v_crashes := v_job.crashes + (p_crash is not null and p_group <= 1)::integer;
        update breakwater.job j
           set lease = p_claim.lease, moved_from = null, parked = null, rule = null, rule_key = null,
               order_key = breakwater.order_key_of(j.kind, j.payload),
               ready_at = now(), crashes = v_crashes,
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
    if v_jobs || v_cancelled <> '{}' and exists (select from breakwater.flow_rule r where r.key_path is not null) then
        perform breakwater.free_keys_of_runs(v_jobs || v_cancelled, array[p_claim.lease]);
    end if;
    perform breakwater.wake(v_kinds);
    return v_jobs;
end
$$;

-- Deregisters a worker whose claims were released. Claims that say where a lane's next claim begins are assigned to
-- worker 0. A claim that was in progress and has committed since is left to rescue(), which finds it by its worker.
create function breakwater.deregister_worker(p_worker bigint) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
    update breakwater.claim c set worker = 0 where c.worker = p_worker and c.jobs = '{}';
    delete from breakwater.worker w where w.id = p_worker;
    select breakwater.stop_sleeping(p_worker)
$$;

-- Releases the jobs that were claimed but never reached their worker, because it lost a connection before a claim was
-- answered. `p_known` are the claims whose jobs the worker has.
create function breakwater.reconcile(p_worker bigint, p_known bigint[]) returns integer
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select cardinality(breakwater.release_claims(p_worker, p_known, null)) $$;

-- Ends a worker: releases the jobs that it still holds, and deregisters it.
create function breakwater.leave(p_worker bigint) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_count integer;
begin
    v_count := cardinality(breakwater.release_claims(p_worker, '{}', null));
    perform breakwater.deregister_worker(p_worker);
    update breakwater.leader l set expires_at = now() where l.worker = p_worker;
    perform breakwater.forget_sleepers();
    return v_count;
end
$$;
