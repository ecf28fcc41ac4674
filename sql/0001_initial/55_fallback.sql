-- Fallbacks for jobs that wait for open circuits, and the unparking of jobs.

-- Applies the handler's fallback, unless it is `hold`, to the jobs that wait for an open circuit: to at most p_limit
-- jobs of each kind. Returns how many jobs it ended or moved.
--
-- It applies only to circuits that belong to the handler's current policy (see breakwater.obsolete_circuit), because
-- the circuit of a key that opened under another policy says nothing about the kind's other jobs. It applies only if a
-- worker handles the kind, because a fallback is part of a handler.
--
-- Locks: each such circuit's row, so that it does not close before its jobs have ended; and the jobs, by SKIP LOCKED.
create function breakwater.apply_fallbacks(p_limit integer) returns integer
language plpgsql set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
declare
    v_policy record;
    v_ids    bigint[];
    v_queues text[];
    v_moved  integer;
    v_count  integer := 0;
begin
    for v_policy in
        select h.kind, h.fallback, h.fallback_result, h.fallback_kind, h.keep_results, c.kind as circuit_kind, c.key,
               c.kind <> '*' and c.key <> '' as is_keyed
          from breakwater.circuit c
          join breakwater.handler h on breakwater.is_circuit_of(c.kind, c.key, h.kind, h.shared_key, c.key)
         -- The fallback applies only after the first round of probes has shown that this is no false alarm.
         where c.state = 'open' and c.is_checked and h.fallback <> 'hold'
           and not exists (select from breakwater.obsolete_circuit o where o.kind = c.kind and o.key = c.key)
    loop
        perform from breakwater.circuit c
          where c.kind = v_policy.circuit_kind and c.key = v_policy.key and c.state = 'open' and c.is_checked
            for share skip locked;
        continue when not found;
        v_queues := array(select distinct unnest(w.queues) from breakwater.worker w where v_policy.kind = any (w.kinds));
        if v_policy.is_keyed then
            v_ids := array(
                select j.id from breakwater.job j
                 where j.kind = v_policy.kind and j.parked = v_policy.key and j.queue = any (v_queues)
                 limit p_limit);
        else
            v_ids := array(
                select j.id from breakwater.job j
                 where j.queue = any (v_queues) and j.kind = v_policy.kind and j.run_at is null
                 -- The selection may include held jobs.
                 limit p_limit + (select coalesce(sum(cardinality(c.jobs)), 0) from breakwater.claim c));
            v_ids := (breakwater.without_held(v_ids))[1:p_limit];
        end if;
        v_ids := breakwater.lock_waiting(v_ids);
        continue when v_ids = '{}';
        v_moved := cardinality(v_ids);
        case v_policy.fallback
            when 'dead_letter' then
                perform breakwater.dead_letter_job(i, 'circuit_open', null) from unnest(v_ids) i;
            when 'succeed' then
                perform breakwater.add_history_days();
                with gone as (
                    delete from breakwater.job j where j.id = any (v_ids) returning j.*
                ), written as (
                    insert into breakwater.finished_job
                    select f.*
                      from gone g
                     cross join lateral breakwater.finished_row(
                                g::breakwater.job, 'succeeded', g.attempt, 'fallback',
                                p_result => v_policy.fallback_result::jsonb) f
                ), reported as (
                    insert into breakwater.outcome (outcome, queue, kind, job, attempt, name)
                    select 'succeeded', g.queue, g.kind, g.id, g.attempt, 'fallback' from gone g
                     where breakwater.has_subscribers()
                )
                insert into breakwater.result (id, kind, result, by_fallback, expires_at)
                select g.id, g.kind, v_policy.fallback_result::jsonb, true,
                       now() + greatest(v_policy.keep_results, interval '1 day')
                  from gone g
                on conflict (id) do update
                   set result = excluded.result, finished_at = now(), expires_at = excluded.expires_at,
                       by_fallback = true;
                perform breakwater.end_dependencies(v_ids, 'succeeded') where breakwater.has_dependencies();
            when 'reroute' then
                v_moved := breakwater.reroute(v_ids, v_policy.fallback_kind);
                perform breakwater.wake(array[v_policy.fallback_kind]);
        end case;
        v_count := v_count + v_moved;
    end loop;
    return v_count;
end
$$;

-- Moves waiting jobs, which the caller has locked, to another kind. A job stays where it is if a job of the other kind
-- has its unique key already; for now, a job also stays if another session's open transaction has its key. Returns how
-- many it moved.
create function breakwater.reroute(p_ids bigint[], p_kind text) returns integer
language plpgsql set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off set lock_timeout = '100ms'
as $$
declare
    v_id    bigint;
    v_count integer;
    v_moved integer;
    v_refused integer := 0;
begin
    v_count := breakwater.reroute_at_once(array(
        select j.id from breakwater.job j where j.id = any (p_ids) and j.unique_key is null order by j.id), p_kind);
    -- Jobs with a key are moved one by one, because each of them may have to wait. The order is random, so that jobs
    -- that must wait do not keep the others from being moved for ever.
    for v_id in
        select j.id from breakwater.job j where j.id = any (p_ids) and j.unique_key is not null order by random()
    loop
        begin
            v_moved := breakwater.reroute_at_once(array[v_id], p_kind);
            v_count := v_count + v_moved;
        exception when lock_not_available or unique_violation then
            v_refused := v_refused + 1;
            exit when v_refused >= 5;
        end;
    end loop;
    return v_count;
end
$$;

-- Moves these jobs to another kind in one statement.
create function breakwater.reroute_at_once(p_ids bigint[], p_kind text) returns integer
language plpgsql set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
declare
    v_count integer;
begin
    update breakwater.job j
       set kind = p_kind, run_at = null, parked = null, rule = null, rule_key = null, order_key = null, ready_at = now(), attempt = 0, handed_back = 0,
           fails_alone = false, position = nextval('breakwater.job_position'),
           errors = breakwater.add_error(j.errors, j.attempt, 'rerouted', 'circuit_open', 'rerouted from ' || j.kind, null)
     where j.id = any (p_ids)
       and not exists (select from breakwater.job o
                        where o.kind = p_kind collate "C" and o.unique_key = j.unique_key);
    get diagnostics v_count = row_count;
    return v_count;
end
$$;

-- Refuses reroutes that form a cycle among the given kinds and those that some worker handles. A kind that no worker
-- handles any more is not part of a cycle.
create function breakwater.refuse_reroute_cycles(p_kinds text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_cycle text;
begin
    with recursive reroute as (
        select h.kind, h.fallback_kind from breakwater.handler h
         where h.fallback = 'reroute'
           and (h.kind = any (p_kinds) or exists (select from breakwater.worker w where h.kind = any (w.kinds)))
    ), path as (
        select r.kind as start, r.fallback_kind as at, r.kind || ' → ' || r.fallback_kind as way, 1 as steps
          from reroute r
        union all
        select p.start, r.fallback_kind, p.way || ' → ' || r.fallback_kind, p.steps + 1
          from path p join reroute r on r.kind = p.at
         where p.at <> p.start and p.steps < 100
    )
    select p.way into v_cycle from path p where p.at = p.start limit 1;
    if v_cycle is not null then
        raise exception 'the fallbacks lead in a circle: %', v_cycle
            using errcode = '22023', hint = 'Let one of these handlers hold its jobs, or reroute elsewhere.';
    end if;
end
$$;

-- Unparks jobs whose circuits are now closed or deleted, in their order, at most p_limit. Returns how many. Jobs that
-- still run as probes are left until their runs end.
create function breakwater.unpark(p_limit integer) returns integer
language plpgsql set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off set enable_bitmapscan = off
as $$
declare
    v_key   record;
    v_id    bigint;
    v_count integer := 0;
    v_kinds text[] := '{}';
begin
    for v_key in
        -- It goes from key to key along the index.
        with recursive key as (
            (select j.kind, j.parked as name from breakwater.job j where j.parked is not null
              order by j.kind, j.parked limit 1)
            union all
            select n.kind, n.name
              from key k
             cross join lateral (
                   select j.kind, j.parked as name from breakwater.job j
                    where j.parked is not null and (j.kind, j.parked) > (k.kind, k.name)
                    order by j.kind, j.parked limit 1) n
        )
        select k.kind, k.name from key k
         where not exists (select from breakwater.circuit c
                            where c.kind = k.kind and c.key = k.name and c.state <> 'closed')
         -- The order is random, so that a key with a million jobs does not come before the others each time.
         order by random()
    loop
        -- The jobs are updated one after the other, so that their new positions are in order.
        foreach v_id in array breakwater.lock_waiting(array(
            select j.id from breakwater.job j
             where j.kind = v_key.kind and j.parked = v_key.name
             order by j.queue, j.priority, j.position
             limit p_limit - v_count))
        loop
            update breakwater.job j
               set run_at = null, parked = null, rule = null, rule_key = null, position = nextval('breakwater.job_position')
             where j.id = v_id;
            v_count := v_count + 1;
        end loop;
        v_kinds := v_kinds || v_key.kind;
        exit when v_count >= p_limit;
    end loop;
    perform breakwater.wake(v_kinds);
    return v_count;
end
$$;
