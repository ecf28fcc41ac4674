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
    v_handlers jsonb := breakwater.handlers_as_of_now(p_handlers);
begin
    perform breakwater.refuse_row_security();
    perform breakwater.check_sequences();
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

-- Adds the circuits and lanes of some handlers that are not there yet.
--
-- Claims may still hold jobs of a lane that somebody deleted. The new one begins after those, or they would be claimed a
-- second time; what waits before them is found by breakwater.return_stranded.
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

-- Whether all rows are there that a worker's registration wrote: somebody may have deleted some.
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

-- Puts back the rows of a worker's registration that are missing. Policies that are there stay as they are: another worker
-- may have registered newer ones.
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

-- A worker's sign of life. `alive` is false when its jobs have been given to others: it must drop them and register
-- anew. `stopped` are the kinds of which nothing may start that was claimed under a circuit's generation before the one
-- in `generations`: those whose circuit is not closed, and (with the highest number) those that are paused, or suspended for this
-- worker, or all of a worker that somebody drained.
-- `hosts` tells it to make itself free for a suspect, which must run alone; `alone`, that no other worker takes its jobs.
-- `registered` is false when rows of its registration are missing: it must renew it.
create function breakwater.beat(
    p_worker bigint, p_state text, p_running integer, p_unresponsive integer, out alive boolean, out stopped text[], out generations bigint[],
    out hosts boolean, out alone boolean, out registered boolean
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
    registered := breakwater.is_registered(p_worker);
    hosts := alive and breakwater.should_host(p_worker, p_running);
    alone := alive and not exists (
        select from breakwater.worker w
          join breakwater.worker o on o.id <> w.id and o.queues && w.queues and o.kinds && w.kinds
         where w.id = p_worker and o.state = 'running' and o.beat_at > now() - o.lease);
end
$$;

-- Takes or keeps the leadership for p_seconds, if nobody else holds it. Returns the term, or null for a follower. The
-- lease row is all there is: no session lock, so it works through any pooler. Never waits.
create function breakwater.lead(p_worker bigint, p_seconds double precision) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_leader breakwater.leader;
begin
    -- Followers only look: a lock of theirs would make the leader itself find the row taken, and miss its turn.
    select * into v_leader from breakwater.leader l;
    if not found then
        insert into breakwater.leader (worker, term, expires_at)
        values (p_worker, 1, now() + make_interval(secs => p_seconds))
        on conflict do nothing;
        return case when found then 1 end;
    elsif v_leader.worker <> p_worker and v_leader.expires_at >= now() then
        return null;
    end if;
    select * into v_leader from breakwater.leader l
     where l.worker = p_worker or l.expires_at < now()
       for update skip locked;
    if not found then
        return null;
    end if;
    if v_leader.worker <> p_worker then
        v_leader.term := v_leader.term + 1;
    end if;
    update breakwater.leader l
       set worker = p_worker, term = v_leader.term, expires_at = now() + make_interval(secs => p_seconds);
    return v_leader.term;
end
$$;

-- The leader's chores, each bounded: promote due jobs, rescue, turn circuits, apply fallbacks, prune. A follower gets
-- `leads` false, and takes over once the leader has been silent for p_seconds. Leadership is taken in the same
-- transaction, so a leader that overslept does nothing; and every chore would be safe to run twice at once.
--
-- `next_due` is how many seconds from now the next scheduled job is due, if one is.
create function breakwater.maintain(
    p_worker bigint, p_seconds double precision,
    out leads boolean, out promoted integer, out rescued integer, out turned integer, out fell_back integer,
    out unparked integer,
    out next_due double precision
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    leads := breakwater.lead(p_worker, p_seconds) is not null;
    if not leads then
        return;
    end if;
    perform breakwater.check_sequences();
    perform breakwater.note_horizon();
    promoted := breakwater.promote(1000);
    rescued := breakwater.rescue();
    perform breakwater.dead_letter_poison(1000);
    turned := breakwater.turn_circuits() + breakwater.close_idle_keys();
    perform breakwater.charge_probes(1000);
    perform breakwater.return_test_shots();
    fell_back := breakwater.apply_fallbacks(1000);
    unparked := breakwater.unpark(1000) + breakwater.return_stranded(1000, 0.05);
    perform breakwater.measure_incidents(5);
    perform breakwater.sum_up_rates();
    perform breakwater.prune(1000);
    -- People hold jobs until 'infinity': there is no difference to that.
    select extract(epoch from min(j.run_at) - clock_timestamp()) into next_due
      from breakwater.job j where j.run_at < 'infinity';
    if not exists (select from breakwater.sleeper s where s.kinds <> '{}') then
        perform breakwater.forget_sleepers();
    end if;
end
$$;

-- Makes due jobs ready, each at a new position, and wakes whoever could run them. Skips rows that others have locked.
-- Retries beyond their kind's budget stay for later.
create function breakwater.promote(p_limit integer) returns integer
language plpgsql set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
declare
    v_ids   bigint[];
    v_kinds text[];
begin
    -- Due jobs of a kind whose budget is spent could hide others behind them: they are moved a second on.
    with due as (
        select j.id, j.kind, j.attempt, j.run_at from breakwater.job j
         where j.run_at <= now() and j.crashes < 3
         order by j.run_at
         limit p_limit
           for update skip locked
    ), ranked as (
        select d.*, d.attempt > 0 as is_retry, row_number() over (partition by d.kind, d.attempt > 0 order by d.run_at)
          from due d
    ), allowed as (
        select k.kind, breakwater.retries_left(k.kind) as retries from (select distinct d.kind from due d) k
    ), later as (
        -- By ids alone, so that there is nothing to join: with a table that holds little but dead rows, that may begin at
        -- its other end.
        update breakwater.job j set run_at = now() + interval '1 second', position = nextval('breakwater.job_position')
         where j.id = any (array(select r.id from ranked r join allowed a using (kind)
                                  where r.is_retry and r.row_number > a.retries))
    )
    select array_agg(r.id order by r.run_at), array_agg(distinct r.kind) into v_ids, v_kinds
      from ranked r join allowed a using (kind)
     where not (r.is_retry and r.row_number > a.retries);
    if v_ids is null then
        return 0;
    end if;
    update breakwater.job j
       set ready_at = greatest(j.run_at, j.enqueued_at), run_at = null, position = nextval('breakwater.job_position')
     where j.id = any (v_ids);
    -- Worker 0 stands for promotion: what is ready counts against the budget before it has run.
    perform breakwater.tally(0, r.kind, '', 0, 0, 0, 0, 0, r.retries)
       from (select j.kind, count(*)::integer as retries from breakwater.job j
              where j.id = any (v_ids) and j.attempt > 0
              group by j.kind) r;
    perform breakwater.wake(v_kinds);
    return cardinality(v_ids);
end
$$;

-- How many retries of a kind may become ready now: the kind's share of its first attempts of the last minute, and ten a
-- second in any case, less those that became ready in the last minute.
create function breakwater.retries_left(p_kind text) returns bigint
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
        (select greatest(0, ceil(h.retry_budget * t.firsts) + 600 - t.retries)::bigint
           from breakwater.handler h,
                lateral (select coalesce(sum(t.succeeded + t.failed), 0)
                                - coalesce(sum(t.retries) filter (where t.worker <> 0), 0) as firsts,
                                coalesce(sum(t.retries) filter (where t.worker = 0), 0) as retries
                           from breakwater.tally t
                          where t.kind = h.kind and t.key = '' and t.slot > breakwater.clock() - interval '1 minute') t
          where h.kind = p_kind collate "C" and h.retry_budget is not null),
        9223372036854775807)
$$;

-- Gives back the jobs of workers that have been silent for longer than their lease. Returns how many.
-- Locks: the dead worker's row, which its own late beat would need, so a worker is either rescued or alive.
create function breakwater.rescue() returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_lost  breakwater.worker;
    v_jobs  bigint[];
    v_count integer := 0;
begin
    for v_lost in
        select * from breakwater.worker w where w.beat_at < now() - w.lease for update skip locked
    loop
        -- A worker that lives comes back within that time, even over a network that was silent for some leases.
        v_jobs := breakwater.release_claims(v_lost.id, '{}', 5 * v_lost.lease);
        v_count := v_count + cardinality(v_jobs);
        insert into breakwater.lost_worker (worker, name, beat_at, jobs)
        values (v_lost.id, v_lost.name, v_lost.beat_at, v_jobs)
        on conflict (worker) do update
           set name = excluded.name, beat_at = excluded.beat_at, lost_at = now(), jobs = excluded.jobs, survived = false;
        perform breakwater.strike_off(v_lost.id);
    end loop;
    -- A claim may commit after its worker was struck off: it was under way, and nobody could see it then.
    v_count := v_count + breakwater.release_orphans();
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

-- Deletes claims whose jobs have all ended and that are not their lane's newest any more. Claims and settles do that, but for
-- those that were overtaken at the very moment when they ended. Nearly all of those are among the latest; all claims are
-- looked at once in a while, for that takes long while somebody holds a snapshot.
create function breakwater.prune_claims(p_all boolean) returns void
language sql set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
    delete from breakwater.claim c
     where c.lease > case when p_all then 0 else (select l.last_value - 20000 from breakwater.lease l) end
       and c.jobs = '{}' and c.lane is not null
       and exists (select from breakwater.claim n
                    where n.lane = c.lane and (n.last, n.lease) > (c.last, c.lease))
$$;

-- Whether a tally is part of a streak of failures that may still open its circuit, however long ago it began.
create function breakwater.is_in_streak(p_tally breakwater.tally) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select p_tally.trailing_failures > 0
       and exists (select from breakwater.circuit c
                    where c.kind = p_tally.kind and c.key = p_tally.key and c.generation = p_tally.generation
                      and c.state = 'closed'
                      and (breakwater.policy_of(c.kind, c.key)).consecutive_failures is not null)
       and not exists (select from breakwater.tally s
                        where s.kind = p_tally.kind and s.key = p_tally.key and s.slot > p_tally.slot
                          and s.generation = p_tally.generation and s.last_success_at is not null)
$$;

-- Deletes what is of no more use: old tallies, expired results and probe leases, history and imports beyond 90 days,
-- idle keys, what belongs to workers that are gone, and outcomes that nobody reads any more.
create function breakwater.prune(p_limit integer) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
    delete from breakwater.tally t where t.ctid = any (array(
        select o.ctid from breakwater.tally o
         where o.slot < breakwater.clock() - (
               select greatest(interval '2 hours', 2 * max(h.circuit_window)) from breakwater.handler h)
           and not breakwater.is_in_streak(o)
         limit p_limit for update skip locked));
    delete from breakwater.result r where r.ctid = any (array(
        select o.ctid from breakwater.result o where o.expires_at < now() limit p_limit for update skip locked));
    delete from breakwater.probe p where p.expires_at < breakwater.clock() - interval '1 hour';
    -- The oldest, without reading those of the day.
    delete from breakwater.probe_result r where r.id = any (array(
        select o.id from (select p.id, p.at from breakwater.probe_result p order by p.id limit p_limit) o
         where o.at < breakwater.clock() - interval '1 day'));
    delete from breakwater.failure f where f.id = any (array(
        select o.id from breakwater.failure o
         where o.at < breakwater.clock() - (
               select greatest(interval '2 hours', 2 * max(h.circuit_window)) from breakwater.handler h)
         order by o.at limit p_limit for update skip locked));
    delete from breakwater.recent_call r where (r.kind, r.key, r.generation, r.id) in (
        select o.kind, o.key, o.generation, o.id
          from (select c.kind, c.key, c.generation, c.id,
                       row_number() over (partition by c.kind, c.key order by c.id desc) as age
                  from breakwater.recent_call c) o
         where o.age > 10000
         limit p_limit);
    delete from breakwater.suspension s where not exists (select from breakwater.worker w where w.id = s.worker);
    -- Keys that have been idle for an hour.
    delete from breakwater.circuit c
     where c.key <> '' and c.kind <> '*' and c.state = 'closed' and c.override is null
       and c.since < breakwater.clock() - interval '1 hour'
       and not exists (select from breakwater.tally t
                        where t.kind = c.kind and t.key = c.key and t.slot > breakwater.clock() - interval '1 hour')
       and not exists (select from breakwater.job j where j.kind = c.kind and j.parked = c.key);
    delete from breakwater.circuit_transition t where t.at < now() - interval '90 days';
    delete from breakwater.lost_worker l where l.lost_at < now() - interval '90 days';
    delete from breakwater.import i where i.updated_at < now() - interval '90 days';
    select breakwater.forget_outcomes(p_limit);
    delete from breakwater.sleeper s where not exists (select from breakwater.worker w where w.id = s.worker);
    select breakwater.prune_claims(random() < 0.001);
    delete from breakwater.rate r where r.minute < now() - interval '2 days';
    select breakwater.prune_incidents(p_limit);
    delete from breakwater.audit a where a.at < now() - interval '1 year';
$$;
