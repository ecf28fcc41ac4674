-- Settling records how runs ended. A run under claim L changes its job only `where id = … and lease < L`, and only
-- while the claim is its worker's, so a stale result changes nothing.

-- How many calls succeeded that belong to one circuit and were claimed under one generation of it.
create type breakwater.counts as (
    kind       text,
    key        text,
    generation bigint,
    succeeded  integer,
    slow       integer,
    -- Calls of jobs that had run before.
    retries    integer
);

-- A call that failed.
create type breakwater.failed_call as (
    kind          text,
    key           text,
    generation    bigint,
    job           bigint,
    is_slow       boolean,
    -- Whether its job had run before, and when it last failed before; null: it had not failed.
    is_retry      boolean,
    failed_before timestamptz,
    -- The job's own `fails_alone` (see breakwater.job).
    fails_alone   boolean,
    name          text,
    message       text,
    -- Whether it opens its circuit at once.
    trips         boolean,
    -- How many seconds the dependency asked to wait.
    retry_after   double precision,
    -- Whether it is a repeat (see 50_circuit.sql).
    is_repeat     boolean
);

-- Settles a worker's finished runs, and waits for the disk when it commits.
--
-- `p_done…` are the successes, which are the usual case. They are settled in bulk: the rows are deleted. `p_done_slow`,
-- `p_done_keys` and `p_results` are empty if no run is slow, no circuit has a key, or no result is kept. Each of the
-- other runs has a class (failed, unavailable, throttled, unable, discarded, snoozed or released), the seconds until
-- the next run, and an effect on its circuit: failed, tripped (it opens at once) or ignored; `p_retry_after` are
-- seconds, -1 for none.
-- `p_claims` are claims that have nothing left to settle. `p_probes` are the jobs that were probes. No job may be named
-- twice.
--
-- Settling is faster if `p_done_tuples` has the location in the table where each claim found its job, and `p_tally…`
-- have the counts by kind, key and generation. The jobs are then deleted without being looked up or counted. If one of
-- them has moved, or is not held any more, all of them are looked up.
--
-- `p_measured…` are, for kinds with an adaptive limit, how many calls ended, the sum of their times, and how many were
-- slow, throttled or unavailable.
--
-- Returns how many runs were settled, the ids that this worker no longer held, and, if calls failed, the kinds that are
-- stopped (see stopped_kinds), so that the worker does not start jobs that it claimed ahead while their dependency is
-- down.
--
-- Locks: the jobs, and the row of each circuit whose state these results may change. It may wait for the latter.
create function breakwater.settle(
    p_worker           bigint,
    p_done             bigint[],
    p_done_leases      bigint[],
    p_done_generations bigint[],
    p_done_slow        boolean[],
    p_done_keys        text[],
    p_results          jsonb[],
    p_ids              bigint[],
    p_leases           bigint[],
    p_generations      bigint[],
    p_keys             text[],
    p_classes          text[],
    p_effects          text[],
    p_slow             boolean[],
    p_delays           double precision[],
    p_retry_after      double precision[],
    p_names            text[],
    p_messages         text[],
    p_claims           bigint[],
    p_probes           bigint[],
    p_done_tuples      tid[] default '{}',
    p_tally_kinds      text[] default '{}',
    p_tally_keys       text[] default '{}',
    p_tally_generations bigint[] default '{}',
    p_tally_succeeded  integer[] default '{}',
    p_tally_slow       integer[] default '{}',
    p_tally_retries    integer[] default '{}',
    p_measured_kinds   text[] default '{}',
    p_measured_calls   integer[] default '{}',
    p_measured_seconds double precision[] default '{}',
    p_measured_bad     integer[] default '{}',
    out settled integer,
    out stale bigint[],
    out stopped text[],
    out generations bigint[]
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set jit = off set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_given   record;
    v_one     record;
    v_gone    bigint[] := '{}';
    -- The kinds that this worker was able to run, because a run of each has ended with another class than `unable`.
    v_ran     text[] := '{}';
    v_counts  breakwater.counts[] := '{}';
    v_failures breakwater.failed_call[] := '{}';
    -- The probes whose failures are not charged before their round has ended.
    v_pending bigint[] := '{}';
    -- Whether some of the successes may belong to the history.
    v_history boolean := false;
    v_cancelled bigint[] := '{}';
begin
    settled := 0;
    stale := '{}';
    stopped := '{}';
    generations := '{}';
    perform breakwater.commit_durably();

    if cardinality(p_done) > 0 and exists (select from breakwater.tail_subscriber) then
        perform breakwater.record_successes(p_worker, p_done, p_done_leases);
    end if;
    -- Nearly always no kind has a history, and nothing more has to be checked.
    if cardinality(p_done) > 0 and exists (select from breakwater.handler h where h.writes_history) then
        v_history := exists (select from breakwater.handler h
                              where h.writes_history and (p_tally_kinds = '{}' or h.kind = any (p_tally_kinds)));
    end if;
    if cardinality(p_done) > 0 and cardinality(p_done_tuples) = cardinality(p_done) and cardinality(p_results) = 0
       and (case when v_history then breakwater.finish_done(p_worker, p_done, p_done_leases, p_done_tuples)
                 else breakwater.delete_done(p_worker, p_done, p_done_leases, p_done_tuples) end)
    then
        settled := cardinality(p_done);
        v_counts := array(
            select row(c.kind, c.key, c.generation, c.succeeded, c.slow, c.retries)::breakwater.counts
              from unnest(p_tally_kinds, p_tally_keys, p_tally_generations, p_tally_succeeded, p_tally_slow,
                          p_tally_retries) c(kind, key, generation, succeeded, slow, retries));
    elsif cardinality(p_done) > 0 then
        if v_history then
            perform breakwater.prepare_history();
        end if;
        with gone as (
            delete from breakwater.job j
             using unnest(p_done, p_done_leases) g(id, lease)
              join breakwater.claim c on c.lease = g.lease and c.worker = p_worker
             where j.id = g.id and j.lease < g.lease
            returning j.id, j.kind, j.attempt, c.claimed_at, case when v_history then j end as job
        ), written as (
            insert into breakwater.finished_job
            select f.*
              from gone g
              join breakwater.handler h on h.kind = g.kind
              join unnest(p_done, p_results) d(id, result) on d.id = g.id
             cross join lateral breakwater.finished_row(
                        g.job, 'succeeded', g.attempt + 1,
                        p_result => case when h.keep_results > interval '0' then d.result end,
                        p_claimed_at => g.claimed_at, p_worker => p_worker) f
             where v_history
        ), kept as (
            insert into breakwater.result (id, kind, result, expires_at)
            -- If a user deleted the handler's row, its keep_results is unknown, so the result is kept for a day.
            select g.id, g.kind, d.result, now() + coalesce(h.keep_results, interval '1 day')
              from gone g
              join unnest(p_done, p_results) d(id, result) on d.id = g.id
              left join breakwater.handler h on h.kind = g.kind
             where cardinality(p_results) > 0 and coalesce(h.keep_results > interval '0', true)
            on conflict (id) do update
               set result = excluded.result, finished_at = now(), expires_at = excluded.expires_at, by_fallback = false
        ), counted as (
            select g.kind, coalesce(d.key, '') as key, d.generation,
                   count(*)::integer as succeeded, count(*) filter (where d.slow)::integer as slow,
                   count(*) filter (where g.attempt > 0)::integer as retries
              from gone g join unnest(p_done, p_done_generations, p_done_slow, p_done_keys)
                               d(id, generation, slow, key) on d.id = g.id
             group by 1, 2, 3
        )
        select coalesce(array_agg(row(c.kind, c.key, c.generation, c.succeeded, c.slow, c.retries)::breakwater.counts),
                        '{}'),
               (select coalesce(array_agg(g.id), '{}') from gone g)
          into v_counts, v_gone
          from counted c;
        settled := cardinality(v_gone);
        if settled < cardinality(p_done) then
            stale := array(select d.id from unnest(p_done) d(id) where d.id <> all (v_gone));
        end if;
    end if;

    -- Dead letters are noted where they are made.
    if cardinality(p_done) > 0 and breakwater.has_dependencies() then
        perform breakwater.end_dependencies(
            case when stale = '{}' then p_done else array(select d from unnest(p_done) d where d <> all (stale)) end,
            'succeeded');
    end if;

    if cardinality(p_ids) > 0 then
        if cardinality(p_probes) > 0 then
            v_pending := breakwater.pending_probes(p_probes);
        end if;
        for v_given in
            select *
              from unnest(p_ids, p_leases, p_generations, p_keys, p_classes, p_effects, p_slow, p_delays, p_retry_after,
                          p_names, p_messages)
                   as g(id, lease, generation, key, class, effect, slow, delay, retry_after, name, message)
        loop
            select * into v_one
              from breakwater.settle_one(
                   p_worker, v_given.id, v_given.lease, v_given.class, v_given.delay, v_given.name, v_given.message,
                   v_given.id = any (v_pending));
            if v_one.kind is null then
                stale := stale || v_given.id;
            else
                settled := settled + 1;
                if v_given.class not in ('unable', 'released') then
                    v_ran := v_ran || v_one.kind;
                end if;
                if v_one.is_cancelled then
                    v_cancelled := v_cancelled || v_given.id;
                elsif v_given.effect in ('failed', 'tripped') then
                    v_failures := v_failures || row(
                        v_one.kind, coalesce(v_given.key, ''), v_given.generation, v_given.id,
                        coalesce(v_given.slow, false), v_one.attempt > 1, v_one.failed_before, v_one.fails_alone,
                        v_given.name, v_given.message, v_given.effect = 'tripped', nullif(v_given.retry_after, -1), false
                    )::breakwater.failed_call;
                end if;
            end if;
        end loop;
    end if;

    if cardinality(p_measured_kinds) > 0 then
        insert into breakwater.call_time (kind, calls, seconds, bad)
        select m.kind, m.calls, m.seconds, m.bad
          from unnest(p_measured_kinds, p_measured_calls, p_measured_seconds, p_measured_bad) m(kind, calls, seconds, bad);
    end if;
    -- Nearly always no rule has a key, and nothing more has to be checked.
    if exists (select from breakwater.flow_rule r where r.key_path is not null) then
        perform breakwater.free_keys_of_runs(p_done || p_ids, p_done_leases || p_leases);
    end if;
    -- These jobs succeeded before their workers could cancel them.
    if cardinality(p_done) > 0 and exists (select from breakwater.cancel_request) then
        delete from breakwater.cancel_request c
         where c.job = any (p_done) and not exists (select from breakwater.job j where j.id = c.job);
    end if;
    if cardinality(p_claims) > 0 then
        perform breakwater.close_claims(p_worker, p_claims);
    end if;
    if cardinality(p_probes) > 0 then
        with ended as (
            delete from breakwater.probe p
             using unnest(p_done || p_ids, p_done_leases || p_leases,
                          array_fill('succeeded'::text, array[cardinality(p_done)]) || p_classes,
                          array_fill(null::text, array[cardinality(p_done)]) || p_names,
                          array_fill(null::text, array[cardinality(p_done)]) || p_messages)
                   as g(id, lease, class, name, message)
             where p.job = any (p_probes) and p.job = g.id and p.lease = g.lease
            returning p.kind, p.key, p.generation, p.job,
                      case when g.id = any (v_cancelled) then 'released' else g.class end as class, g.name,
                      left(g.message, 500) as message
        )
        insert into breakwater.probe_result (kind, key, generation, job, worker, outcome, name, message, is_pending, at)
        select e.kind, e.key, e.generation, e.job, p_worker, e.class, e.name, e.message,
               e.class = 'unavailable' and e.job = any (v_pending), breakwater.clock()
          from ended e;
    end if;
    if exists (select from breakwater.suspension s where s.worker = p_worker and s.is_local) then
        perform breakwater.resume_self(p_worker, v_ran || array(select c.kind from unnest(v_counts) c));
    end if;
    perform breakwater.record_calls(p_worker, v_counts, v_failures);
    if v_failures <> '{}' then
        select s.kinds, s.generations into stopped, generations from breakwater.stopped_kinds(p_worker) s;
    end if;
end
$$;

-- Deletes succeeded jobs at the locations in the table where their claims found them. Returns false and deletes nothing
-- if a location does not have its job any more, or if a claim may not hold its job any more.
--
-- The settings allow only plans that find rows by location, however small the table was when the plan was made.
create function breakwater.delete_done(p_worker bigint, p_ids bigint[], p_leases bigint[], p_tuples tid[])
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set jit = off set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_indexscan = off set enable_bitmapscan = off
as $$
declare
    -- The lowest of the leases. Nearly always, the jobs were never held before, or long ago, so their own `lease` is
    -- lower.
    v_lease   bigint := (select min(l) from unnest(p_leases) l);
    v_deleted integer;
begin
    if not breakwater.are_claims_of(p_worker, p_leases) then
        return false;
    end if;
    delete from breakwater.job j
     where j.ctid = any (p_tuples) and j.lease < v_lease
       -- A location may have been reused for another job. The CASE keeps the planner from joining.
       and case when j.id in (select g.id from unnest(p_ids) g(id)) then true end;
    get diagnostics v_deleted = row_count;
    if v_deleted < cardinality(p_ids) then
        raise exception using errcode = 'BW004', message = 'a job has moved';
    end if;
    return true;
exception when sqlstate 'BW004' then
    return false;
end
$$;

-- Whether all of these leases are claims of a worker.
create function breakwater.are_claims_of(p_worker bigint, p_leases bigint[]) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp set enable_indexscan = on
as $$
begin
    return not exists (
        select from (select distinct l from unnest(p_leases) l) g(lease)
         where not exists (select from breakwater.claim c where c.lease = g.lease and c.worker = p_worker));
end
$$;

-- Deletes claims whose runs are all settled. The newest claim of a lane stays, without its jobs, because the next claim
-- begins where it ended.
create function breakwater.close_claims(p_worker bigint, p_claims bigint[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_deleted integer;
begin
    delete from breakwater.claim c
     where c.lease = any (p_claims) and c.worker = p_worker
       and (c.lane is null or exists (select from breakwater.claim n
                                       where n.lane = c.lane and (n.last, n.lease) > (c.last, c.lease)));
    get diagnostics v_deleted = row_count;
    if v_deleted < cardinality(p_claims) then
        update breakwater.claim c set jobs = '{}', rules = null, keys = null
         where c.lease = any (p_claims) and c.worker = p_worker and c.jobs <> '{}';
    end if;
end
$$;
