-- Promotion: jobs that are due become ready.

-- Makes due jobs ready, at most p_limit, each at a new position, and notifies the sleeping workers that could run them.
-- Skips rows that other sessions have locked. Retries beyond their kind's budget are left as they are: nothing is
-- written for them, and they do not delay other jobs. Returns how many jobs it made ready.
create function breakwater.promote(p_limit integer) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_bitmapscan = off
as $$
declare
    v_kind    record;
    v_some    bigint[];
    v_retries bigint[] := '{}';
    v_ids     bigint[];
    v_kinds   text[];
begin
    -- The kind whose first retry has been due the longest comes first, so that no kind waits forever for thousands of
    -- retries of another one.
    for v_kind in
        select k.kind, breakwater.retries_left(k.kind) as retries_left
          from breakwater.kinds_with_retries() k(kind)
         cross join lateral (
               select j.run_at from breakwater.job j
                where j.kind = k.kind collate "C" and j.run_at <= now() and j.attempt > 0
                order by j.run_at limit 1) f
         order by f.run_at
    loop
        exit when cardinality(v_retries) >= p_limit;
        continue when v_kind.retries_left = 0;
        v_some := array(
            select j.id from breakwater.job j
             where j.kind = v_kind.kind collate "C" and j.run_at <= now() and j.attempt > 0 and j.crashes < 3
             order by j.run_at
             limit least(p_limit - cardinality(v_retries), v_kind.retries_left)
               for update skip locked);
        v_retries := v_retries || v_some;
        -- Worker 0 stands for promotion: a retry counts against the budget when it is made ready, before it has run.
        perform breakwater.tally(0, v_kind.kind, '', 0, 0, 0, 0, 0, cardinality(v_some)) where v_some <> '{}';
    end loop;
    v_ids := v_retries || array(
        select j.id from breakwater.job j
         where j.run_at <= now() and j.attempt = 0 and j.crashes < 3
         order by j.run_at
         limit p_limit
           for update skip locked);
    if v_ids = '{}' then
        return 0;
    end if;
    -- The jobs are chosen by id alone, so that the planner has nothing to join.
    with ready as (
        update breakwater.job j
           set ready_at = greatest(j.run_at, j.enqueued_at), run_at = null, position = nextval('breakwater.job_position')
         where j.id = any (v_ids)
        returning j.kind
    )
    select array_agg(distinct r.kind) into v_kinds from ready r;
    perform breakwater.wake(v_kinds);
    return cardinality(v_ids);
end
$$;

-- The kinds that have waiting retries, found by skipping along their index. It is in PL/pgSQL, which keeps its plan.
create function breakwater.kinds_with_retries() returns setof text
language plpgsql stable set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_bitmapscan = off
as $$
begin
    return query
    with recursive k as (
        (select j.kind from breakwater.job j where j.run_at is not null and j.attempt > 0 order by j.kind limit 1)
        union all
        select n.kind
          from k
         cross join lateral (
               select j.kind from breakwater.job j
                where j.run_at is not null and j.attempt > 0 and j.kind > k.kind
                order by j.kind limit 1) n
    )
    select k.kind::text from k;
end
$$;

-- The number of seconds until the next job that waits for its time is due; null: no job waits. A job that is already
-- due but was not made ready, because it is beyond its budget or locked by another session, is left for the next round.
create function breakwater.seconds_to_next_due() returns double precision
language plpgsql stable set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_bitmapscan = off
as $$
begin
    return (
    select extract(epoch from min(d.run_at) - clock_timestamp())
      from (select min(j.run_at) as run_at from breakwater.job j
             where j.run_at > now() and j.run_at < 'infinity' and j.attempt = 0
            union all
            select r.run_at
              from breakwater.kinds_with_retries() k(kind)
             cross join lateral (
                   select j.run_at from breakwater.job j
                    where j.kind = k.kind collate "C" and j.run_at > now() and j.run_at < 'infinity' and j.attempt > 0
                    order by j.run_at limit 1) r) d);
end
$$;

-- How many retries of a kind may become ready now: the kind's share of its first attempts of the last minute, plus ten
-- a second, minus those that became ready in the last minute.
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
