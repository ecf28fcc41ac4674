-- Records how calls ended. The transaction that settles them also tallies them by circuit, and evaluates the circuits
-- whose state they may change (see 50_circuit.sql).

-- How some calls ended that belong to one circuit and were claimed under one generation of it.
create type breakwater.circuit_calls as (
    -- The kind of the jobs.
    kind         text,
    circuit_kind text,
    circuit_key  text,
    generation   bigint,
    -- Whether the circuit counts the calls, its current generation, and its state.
    is_counted   boolean,
    present      bigint,
    state        text,
    -- For a circuit of a key: the generation of its kind's own circuit.
    own          bigint,
    -- When a round of its probes last failed.
    was_down_at  timestamptz,
    window_calls integer,
    succeeded    integer,
    slow         integer,
    retries      integer,
    failures     breakwater.failed_call[]
);

-- Groups calls by their circuits: a shared circuit, that of a key, or the kind's own. The groups are in the order in
-- which the circuits' rows are locked.
create function breakwater.by_circuit(p_counts breakwater.counts[], p_failures breakwater.failed_call[])
returns setof breakwater.circuit_calls
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with call as (
        select c.kind, c.key, c.generation, c.succeeded, c.slow, c.retries, null::breakwater.failed_call as failure
          from unnest(p_counts) c
        union all
        select f.kind, f.key, f.generation, 0, 0, 0, f from unnest(p_failures) f
    ), known as (
        select c.*, h.window_calls, h.circuit_enabled, h.key_path is not null and h.shared_key is null as has_keys,
               k.kind as circuit_kind, k.key as circuit_key, k.generation as present, k.state, k.override, k.was_down_at,
               o.generation as own
          from call c
          join breakwater.handler h on h.kind = c.kind collate "C"
          left join breakwater.circuit o on o.kind = c.kind collate "C" and o.key = ''
          left join breakwater.circuit b on breakwater.is_circuit_of(
                    b.kind, b.key, c.kind, h.shared_key, case when h.key_path is null then '' else c.key end)
         cross join lateral (
               select (t).* from (values (case when b.kind is null and h.shared_key is null then o else b end)) v(t)) k
    )
    select k.kind, k.circuit_kind, k.circuit_key,
           -- A call that was claimed before its key had a circuit counts for that circuit's first generation. If the
           -- key still has none, the call counts for its kind's own circuit.
           greatest(case when k.circuit_key = '' then abs(k.generation) else k.generation end, 1) as generation,
           k.circuit_kind is not null and coalesce(k.override, '') <> 'disabled' and k.circuit_enabled,
           k.present, k.state, case when k.has_keys and k.circuit_key <> '' then k.own end, k.was_down_at, k.window_calls,
           sum(k.succeeded)::integer, sum(k.slow)::integer, sum(k.retries)::integer,
           coalesce(array_agg(k.failure) filter (where (k.failure).kind is not null), '{}')
      from known k
     group by k.kind, k.circuit_kind, k.circuit_key, 4, 5, k.present, k.state, 8, k.was_down_at, k.window_calls
     -- For one circuit, groups without a success come first, because a success that was settled together with failures
     -- ends a streak.
     order by k.circuit_kind collate "C", k.circuit_key collate "C", sum(k.succeeded) > 0, k.kind, 4;
end
$$;

-- Tallies calls, and evaluates the circuits whose state they may change. Closed circuits without failed or slow calls
-- are only tallied.
--
-- Locks: this worker's tally row of the current second, then the row of each circuit whose state may change.
create function breakwater.record_calls(
    p_worker bigint, p_counts breakwater.counts[], p_failures breakwater.failed_call[]
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_groups  breakwater.circuit_calls[];
    v_calls   breakwater.circuit_calls;
    v_circuit breakwater.circuit;
    v_is_judged boolean := false;
begin
    if p_failures <> '{}' then
        perform breakwater.create_key_circuits(p_failures);
    end if;
    v_groups := array(select g from breakwater.by_circuit(p_counts, p_failures) g);

    -- All calls are tallied before any circuit is evaluated.
    for i in 1 .. cardinality(v_groups) loop
        v_calls := v_groups[i];
        if v_calls.failures <> '{}' then
            v_calls.failures := breakwater.mark_repeats(v_calls, breakwater.last_success(v_calls, v_groups));
            v_groups[i] := v_calls;
            perform breakwater.record_who_fails_alone(v_calls);
        end if;
        perform breakwater.tally_calls(p_worker, v_calls);
        continue when not v_calls.is_counted or v_calls.generation <> v_calls.present;
        if v_calls.state = 'closed' and v_calls.succeeded > 0 then
            delete from breakwater.suspension s
             where s.kind = v_calls.circuit_kind and s.key = v_calls.circuit_key and s.worker = p_worker
               and s.until <= breakwater.clock() and not s.is_local;
        end if;
        v_is_judged := v_is_judged or v_calls.state <> 'closed' or v_calls.failures <> '{}' or v_calls.slow > 0;
    end loop;
    if not v_is_judged then
        return;
    end if;

    for v_calls in
        select null, g.circuit_kind, g.circuit_key, g.generation, true, g.present, g.state, null, null, null,
               sum(g.succeeded), sum(g.slow), sum(g.retries),
               array(select f from unnest(v_groups) o cross join unnest(o.failures) f
                      where o.is_counted
                        and (o.circuit_kind, o.circuit_key, o.generation) = (g.circuit_kind, g.circuit_key, g.generation))
          from unnest(v_groups) g
         where g.is_counted and g.generation = g.present
         group by g.circuit_kind, g.circuit_key, g.generation, g.present, g.state
         order by g.circuit_kind collate "C", g.circuit_key collate "C"
    loop
        continue when v_calls.state = 'closed' and v_calls.failures = '{}' and v_calls.slow = 0;
        select * into v_circuit from breakwater.circuit c
         where c.kind = v_calls.circuit_kind and c.key = v_calls.circuit_key and c.generation = v_calls.generation;
        if v_circuit.state = 'closed' then
            perform breakwater.trip_if_due(v_circuit, v_calls, p_worker);
        elsif v_circuit.state = 'half_open' then
            perform breakwater.count_probes(v_circuit, v_calls, p_worker);
        elsif v_circuit.state = 'open' and v_calls.succeeded > 0 then
            perform breakwater.begin_round(v_calls, p_worker);
        end if;
    end loop;
end
$$;

-- Creates a key's circuit with its first failure, so that healthy keys cost nothing; at most 1,000 keys for each kind.
create function breakwater.create_key_circuits(p_failures breakwater.failed_call[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    insert into breakwater.circuit (kind, key, key_path)
    select n.kind, n.key, n.key_path
      from (select f.kind, f.key, h.key_path, row_number() over (partition by f.kind order by f.key) as number
              from (select distinct c.kind collate "C" as kind, c.key collate "C" as key
                      from unnest(p_failures) c where c.key <> '') f
              join breakwater.handler h on h.kind = f.kind and h.key_path is not null and h.shared_key is null
             where not exists (select from breakwater.circuit c where c.kind = f.kind and c.key = f.key)) n
     where n.number <= 1000 - (select count(*) from (select from breakwater.circuit c
                                                      where c.kind = n.kind and c.key <> '' limit 1000) k)
     order by n.kind, n.key
    on conflict do nothing;
end
$$;

-- Returns the failures, with the repeats marked. `p_success` is when a call of their circuit last succeeded.
--
-- If a key has no circuit because there are too many, its failures say nothing about its kind while other calls of the
-- kind succeed. They count only if no call has succeeded in the window.
create function breakwater.mark_repeats(p_calls breakwater.circuit_calls, p_success timestamptz)
returns breakwater.failed_call[]
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    v_failures breakwater.failed_call[] := '{}';
    v_call     breakwater.failed_call;
    v_window   interval := (select coalesce(h.circuit_window, interval '1 minute') from breakwater.handler h
                             where h.kind = p_calls.kind collate "C");
begin
    foreach v_call in array p_calls.failures loop
        v_call.is_repeat :=
            ((v_call.fails_alone or coalesce(p_success > v_call.failed_before, false))
             and coalesce(p_calls.was_down_at < v_call.failed_before, true))
            or (v_call.key <> '' and p_calls.circuit_key = '' and p_calls.circuit_kind <> '*'
                and coalesce(p_success > breakwater.clock() - v_window, false));
        v_failures := v_failures || v_call;
    end loop;
    return v_failures;
end
$$;

-- Records which jobs fail alone, if that has changed. The jobs were settled in this transaction.
create function breakwater.record_who_fails_alone(p_calls breakwater.circuit_calls) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_ids bigint[] := array(select f.job from unnest(p_calls.failures) f
                             where f.failed_before is not null and f.is_repeat <> f.fails_alone);
begin
    if v_ids <> '{}' then
        -- The jobs are chosen by id alone, so that the planner has nothing to join.
        update breakwater.job j set fails_alone = not j.fails_alone where j.id = any (v_ids);
    end if;
end
$$;

-- When a call of a circuit last succeeded, in any generation. Calls that are being settled count as now. null: no call
-- has succeeded in the time that is relevant for these failures.
create function breakwater.last_success(p_calls breakwater.circuit_calls, p_groups breakwater.circuit_calls[])
returns timestamptz
language plpgsql stable set search_path = pg_catalog, pg_temp set seq_page_cost = 0 set random_page_cost = 0
as $$
declare
    v_from timestamptz;
begin
    if exists (select from unnest(p_groups) g
                where g.succeeded > 0
                  and ((g.is_counted and g.circuit_kind = p_calls.circuit_kind and g.circuit_key = p_calls.circuit_key)
                       or (p_calls.circuit_key = '' and g.kind = p_calls.circuit_kind)))
    then
        return breakwater.clock();
    end if;
    select min(f.failed_before) into v_from from unnest(p_calls.failures) f;
    if p_calls.circuit_key = '' and exists (select from unnest(p_calls.failures) f where f.key <> '') then
        -- This is as long as the longest window.
        v_from := least(v_from, breakwater.clock() - interval '1 day');
    end if;
    return (select max(t.last_success_at) from breakwater.tally t
             where t.kind = p_calls.circuit_kind and t.key = p_calls.circuit_key
               and t.slot >= date_trunc('second', v_from));
end
$$;

-- Tallies calls for their circuit, and always for their kind as well, where users and the retry budget read them. The
-- successes of a key's circuit also count for its kind's own circuit, so that failures without a key, or of keys
-- without a circuit, are compared with them.
create function breakwater.tally_calls(p_worker bigint, p_calls breakwater.circuit_calls) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_failed  integer := cardinality(p_calls.failures);
    v_repeats integer := 0;
    v_slow    integer := 0;
    v_retries integer := p_calls.retries;
begin
    if v_failed > 0 then
        select count(*) filter (where f.is_repeat), count(*) filter (where f.is_slow and not f.is_repeat),
               v_retries + count(*) filter (where f.is_retry)
          into v_repeats, v_slow, v_retries
          from unnest(p_calls.failures) f;
    end if;
    if not p_calls.is_counted then
        perform breakwater.tally(p_worker, p_calls.kind, '', 0, p_calls.succeeded, v_failed, v_repeats,
                                 p_calls.slow + v_slow, v_retries);
        return;
    end if;
    perform breakwater.tally(p_worker, p_calls.circuit_kind, p_calls.circuit_key, p_calls.generation, p_calls.succeeded,
                             v_failed, v_repeats, p_calls.slow + v_slow, v_retries);
    if p_calls.circuit_kind = '*' then
        perform breakwater.tally(p_worker, p_calls.kind, '', 0, p_calls.succeeded, v_failed, v_repeats,
                                 p_calls.slow + v_slow, v_retries);
    elsif p_calls.own is not null then
        perform breakwater.tally(p_worker, p_calls.kind, '', p_calls.own, p_calls.succeeded, 0, 0, p_calls.slow, v_retries);
        if v_failed > 0 then
            perform breakwater.tally(p_worker, p_calls.kind, '', 0, 0, v_failed, v_repeats, v_slow, 0);
        end if;
    end if;
    if p_calls.window_calls is not null and p_calls.own is not null and p_calls.succeeded > 0 then
        insert into breakwater.recent_call (kind, key, generation, calls)
        values (p_calls.kind, '', p_calls.own,
                repeat('s', p_calls.succeeded - p_calls.slow) || repeat('S', p_calls.slow));
    end if;
    if p_calls.window_calls is not null and p_calls.succeeded + v_failed > v_repeats then
        -- Failures come first, because a success that was settled with them ends a streak.
        insert into breakwater.recent_call (kind, key, generation, calls)
        values (p_calls.circuit_kind, p_calls.circuit_key, p_calls.generation,
                repeat('F', v_slow) || repeat('f', v_failed - v_repeats - v_slow)
                || repeat('s', p_calls.succeeded - p_calls.slow) || repeat('S', p_calls.slow));
    end if;
    if v_failed > 0 then
        insert into breakwater.failure (kind, key, generation, worker, name, message, failed, repeats, jobs, at)
        select p_calls.circuit_kind, p_calls.circuit_key, p_calls.generation, p_worker, f.name, max(f.message), count(*),
               count(*) filter (where f.is_repeat), (array_agg(f.job))[1:10], breakwater.clock()
          from (select left(coalesce(c.name, 'failed'), 200) as name, left(c.message, 500) as message, c.job, c.is_repeat
                  from unnest(p_calls.failures) c) f
         group by f.name;
    end if;
end
$$;

-- Adds to a worker's tally row of the current second. Its streak of failures starts again if another worker's success
-- in the same second interrupted it.
create function breakwater.tally(
    p_worker bigint, p_kind text, p_key text, p_generation bigint, p_succeeded integer, p_failed integer,
    p_repeats integer, p_slow integer, p_retries integer
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    insert into breakwater.tally as t (
        kind, key, generation, slot, worker, succeeded, failed, repeats, slow, retries, trailing_failures, failing_since,
        last_success_at)
    values (p_kind, p_key, p_generation, date_trunc('second', breakwater.clock()), p_worker,
            p_succeeded, p_failed, p_repeats, p_slow, p_retries,
            case when p_succeeded > 0 then 0 else p_failed - p_repeats end,
            case when p_succeeded = 0 and p_failed > p_repeats then breakwater.clock() end,
            case when p_succeeded > 0 then breakwater.clock() end)
    on conflict (kind, key, slot, generation, worker) do update
       set succeeded = t.succeeded + excluded.succeeded,
           failed = t.failed + excluded.failed,
           repeats = t.repeats + excluded.repeats,
           slow = t.slow + excluded.slow,
           retries = t.retries + excluded.retries,
           (trailing_failures, failing_since) = (
               select case when excluded.succeeded > 0 then 0
                           when o.was_interrupted then excluded.trailing_failures
                           else t.trailing_failures + excluded.trailing_failures end,
                      case when excluded.succeeded > 0 then null
                           when o.was_interrupted then excluded.failing_since
                           else coalesce(t.failing_since, excluded.failing_since) end
                 from (select excluded.succeeded = 0 and exists (
                              select from breakwater.tally s
                               where s.kind = t.kind and s.key = t.key and s.generation = t.generation
                                 and s.slot = t.slot and s.last_success_at > t.failing_since) as was_interrupted) o),
           last_success_at = coalesce(excluded.last_success_at, t.last_success_at);
end
$$;
