-- Circuits: when the dependency of a kind is down, the whole fleet stops asking, and waiting jobs pay nothing.
--
--                failure rate or a streak of failures
--      closed ────────────────────────────────────────▶ open ◀──────────┐
--        ▲                                                │ retry_at     │ a probe fails (longer each time)
--        │            successes_to_close probes           ▼              │
--        └─────────────────────────────────────────── half_open ────────┘

-- The time that circuits go by: the database's. A test may set `breakwater.clock` to stand elsewhere.
create function breakwater.clock() returns timestamptz
language sql stable
as $$ select coalesce(nullif(current_setting('breakwater.clock', true), '')::timestamptz, now()) $$;

-- Tallies calls, and moves the circuits that they move. Closed circuits with no failures are only tallied.
-- Locks: this worker's tally row of the present second, then the row of each circuit that has reason to move.
create function breakwater.record_calls(p_worker bigint, p_counts breakwater.counts[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_calls record;
begin
    for v_calls in
        select c.kind, c.generation, sum(c.succeeded)::integer as succeeded, sum(c.failed)::integer as failed,
               b.state, b.generation = c.generation as is_current
          from unnest(p_counts) c
          join breakwater.circuit b on b.kind = c.kind collate "C" and b.key = ''
         group by c.kind, c.generation, b.state, b.generation
         order by c.kind, c.generation
    loop
        insert into breakwater.tally as t (kind, generation, slot, worker, succeeded, failed, trailing_failures)
        values (v_calls.kind, v_calls.generation, date_trunc('second', breakwater.clock()), p_worker,
                v_calls.succeeded, v_calls.failed, case when v_calls.succeeded > 0 then 0 else v_calls.failed end)
        on conflict (kind, key, generation, slot, worker) do update
           set succeeded = t.succeeded + excluded.succeeded,
               failed = t.failed + excluded.failed,
               trailing_failures = case when excluded.succeeded > 0 then 0
                                        else t.trailing_failures + excluded.failed end;

        continue when not v_calls.is_current;
        if v_calls.state = 'closed' and v_calls.failed > 0 then
            perform breakwater.trip_if_due(v_calls.kind, v_calls.generation, p_worker);
        elsif v_calls.state = 'half_open' then
            perform breakwater.count_probes(
                v_calls.kind, v_calls.generation, v_calls.succeeded, v_calls.failed, p_worker);
        end if;
    end loop;
end
$$;

-- Opens a closed circuit if its window says so.
create function breakwater.trip_if_due(p_kind text, p_generation bigint, p_worker bigint) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_policy  breakwater.handler;
    v_calls   bigint;
    v_failed  bigint;
    v_streak  bigint;
    v_reason  text;
begin
    select * into v_policy from breakwater.handler h where h.kind = p_kind collate "C" and h.circuit_enabled;
    if not found then
        return;
    end if;

    select coalesce(sum(t.succeeded + t.failed), 0), coalesce(sum(t.failed), 0) into v_calls, v_failed
      from breakwater.tally t
     where t.kind = p_kind collate "C" and t.key = '' and t.generation = p_generation
       and t.slot > breakwater.clock() - v_policy.circuit_window;
    if v_calls >= v_policy.minimum_calls and v_failed >= v_policy.failure_rate * v_calls then
        v_reason := format('%s of %s calls failed in %s s', v_failed, v_calls,
                           round(extract(epoch from v_policy.circuit_window)));
    elsif v_policy.consecutive_failures is not null then
        -- Walk back from the newest tally to the first that saw a success.
        select sum(w.trailing_failures) into v_streak
          from (select t.trailing_failures,
                       count(*) filter (where t.succeeded > 0) over (order by t.slot desc, t.worker
                           rows between unbounded preceding and 1 preceding) as successes_since
                  from (select * from breakwater.tally t
                         where t.kind = p_kind collate "C" and t.key = '' and t.generation = p_generation
                         order by t.slot desc
                         limit 1000) t) w
         where coalesce(w.successes_since, 0) = 0;
        if v_streak >= v_policy.consecutive_failures then
            v_reason := format('%s failures in a row', v_streak);
        end if;
    end if;

    if v_reason is not null then
        perform from breakwater.circuit c
          where c.kind = p_kind collate "C" and c.key = '' and c.generation = p_generation
            and c.state = 'closed' and c.override is null
            for update;
        if found then
            perform breakwater.transition(p_kind, '', 'open', v_reason, null, p_worker);
        end if;
    end if;
end
$$;

-- Counts the ends of probes, and closes or re-opens the circuit.
create function breakwater.count_probes(
    p_kind text, p_generation bigint, p_succeeded integer, p_failed integer, p_worker bigint
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_circuit breakwater.circuit;
    v_needed  integer;
begin
    select * into v_circuit from breakwater.circuit c
     where c.kind = p_kind collate "C" and c.key = '' and c.generation = p_generation and c.state = 'half_open'
       for update;
    if not found then
        return;
    end if;
    if p_failed > 0 then
        perform breakwater.transition(p_kind, '', 'open', 'a probe failed', null, p_worker);
        return;
    end if;
    select h.successes_to_close into v_needed from breakwater.handler h where h.kind = p_kind collate "C";
    if v_circuit.successes + p_succeeded >= coalesce(v_needed, 1) then
        perform breakwater.transition(
            p_kind, '', 'closed', format('%s probes succeeded', v_circuit.successes + p_succeeded), null, p_worker);
    else
        update breakwater.circuit c set successes = c.successes + p_succeeded
         where c.kind = p_kind collate "C" and c.key = '';
    end if;
end
$$;

-- How long a circuit stays open: open_for · open_factor^reopened, at most open_cap, with equal jitter (half of it
-- for certain, the other half by chance), so that circuits that opened together are not probed together.
create function breakwater.open_time(p_policy breakwater.handler, p_reopened integer) returns interval
language sql volatile set search_path = pg_catalog, pg_temp
as $$
    -- The exponent is bounded, so that the power does not overflow long after the cap is reached.
    select make_interval(secs => t.seconds / 2 + random() * t.seconds / 2)
      from (select least(extract(epoch from p_policy.open_cap)::double precision,
                         extract(epoch from p_policy.open_for)::double precision
                         * least(p_policy.open_factor, 1000) ^ least(p_reopened, 60)) as seconds) t
$$;

-- Moves a circuit, whose row the caller has locked, to another state: new generation, one line of history, one
-- notification without payload data. Open time grows while it re-opens without having been closed.
create function breakwater.transition(
    p_kind text, p_key text, p_to text, p_reason text, p_actor text, p_worker bigint
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_old    breakwater.circuit;
    v_policy breakwater.handler;
    v_reopened integer;
begin
    select * into v_old from breakwater.circuit c where c.kind = p_kind collate "C" and c.key = p_key collate "C";
    select * into v_policy from breakwater.handler h where h.kind = p_kind collate "C";
    v_reopened := case when p_to = 'closed' or v_old.state = 'closed' then 0
                       when p_to = 'open' and v_old.state = 'half_open' then v_old.reopened + 1
                       else v_old.reopened end;
    update breakwater.circuit c
       set state = p_to,
           generation = c.generation + 1,
           since = breakwater.clock(),
           reason = p_reason,
           retry_at = case when p_to = 'open'
                           then breakwater.clock()
                                + coalesce(breakwater.open_time(v_policy, v_reopened), interval '30 seconds') end,
           reopened = v_reopened,
           successes = 0,
           override = null, override_actor = null, override_until = null
     where c.kind = p_kind collate "C" and c.key = p_key collate "C";
    insert into breakwater.circuit_transition (kind, key, generation, from_state, to_state, reason, actor, worker, at)
    values (p_kind, p_key, v_old.generation + 1, v_old.state, p_to, p_reason, p_actor, p_worker, breakwater.clock());
    perform pg_notify('breakwater', 'circuit:' || p_kind);
end
$$;

-- How many of the wanted jobs a circuit that is not closed lets through, and under which generation. Makes it half-open
-- when its time has come. Locks the circuit's row if nobody else has it; otherwise admits none this time.
create function breakwater.admit_probes(
    p_kind text, p_key text, p_wanted integer, out permits integer, out generation bigint
)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_circuit breakwater.circuit;
begin
    permits := 0;
    select * into v_circuit from breakwater.circuit c
     where c.kind = p_kind collate "C" and c.key = p_key collate "C"
       for update skip locked;
    if not found then
        return;
    end if;
    if v_circuit.state = 'open' and v_circuit.override is null and v_circuit.retry_at <= breakwater.clock() then
        perform breakwater.transition(p_kind, p_key, 'half_open', 'its open time is over', null, null);
        v_circuit.state := 'half_open';
        v_circuit.generation := v_circuit.generation + 1;
    end if;
    generation := v_circuit.generation;
    if v_circuit.state = 'closed' then
        permits := p_wanted;
    elsif v_circuit.state = 'half_open' then
        select greatest(0, least(p_wanted, coalesce(h.probes, 1) - (
                   select count(*) from breakwater.probe p
                    where p.kind = p_kind collate "C" and p.key = p_key collate "C"
                      and p.expires_at > breakwater.clock())))
          into permits
          from (select) one left join breakwater.handler h on h.kind = p_kind collate "C";
    end if;
end
$$;

-- Writes down the probe leases of jobs that a half-open circuit lets through. A lease ends when its job is settled,
-- or by itself when its worker must be dead.
create function breakwater.lease_probes(p_kind text, p_key text, p_jobs bigint[], p_lease bigint) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
    insert into breakwater.probe (job, lease, kind, key, expires_at)
    select j, p_lease, p_kind, p_key,
           breakwater.clock() + interval '1 minute'
           + coalesce((select h.timeout from breakwater.handler h where h.kind = p_kind collate "C"), interval '0')
      from unnest(p_jobs) j
    on conflict (job) do update set lease = excluded.lease, expires_at = excluded.expires_at
$$;

-- Makes every circuit half-open whose open time is over, and ends overrides that have run out: time moves circuits
-- even where no job asks.
create function breakwater.turn_circuits() returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_circuit breakwater.circuit;
    v_count   integer := 0;
begin
    for v_circuit in
        select * from breakwater.circuit c
         where (c.state = 'open' and c.override is null and c.retry_at <= breakwater.clock())
            or c.override_until <= breakwater.clock()
           for update skip locked
    loop
        if v_circuit.override is null then
            perform breakwater.transition(
                v_circuit.kind, v_circuit.key, 'half_open', 'its open time is over', null, null);
        else
            perform breakwater.transition(v_circuit.kind, v_circuit.key, 'closed',
                format('held %s until %s', v_circuit.override, v_circuit.override_until), null, null);
        end if;
        v_count := v_count + 1;
    end loop;
    return v_count;
end
$$;

-- What the three below have in common. Locks the circuit's row.
create function breakwater.override_circuit(
    p_kind text, p_override text, p_reason text, p_until timestamptz, p_actor text
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if p_reason is null or p_reason = '' then
        raise exception 'a reason is needed' using errcode = '22023',
            hint = 'It goes into the circuit''s history, for whoever reads it next.';
    elsif p_until <= breakwater.clock() then
        raise exception 'the time % is in the past', p_until using errcode = '22023';
    end if;
    perform from breakwater.circuit c where c.kind = p_kind collate "C" and c.key = '' for update;
    if not found then
        raise exception 'there is no circuit for the kind ''%''', p_kind using errcode = 'P0002',
            hint = 'A worker that handles the kind creates its circuit when it starts; '
                   || 'SELECT kind FROM breakwater.circuit lists them.';
    end if;
    perform breakwater.transition(p_kind, '', coalesce(p_override, 'closed'), p_reason, coalesce(p_actor, '?'), null);
    update breakwater.circuit c
       set override = p_override,
           override_actor = case when p_override is not null then p_actor end,
           override_until = p_until,
           retry_at = null
     where c.kind = p_kind collate "C" and c.key = '';
    if coalesce(p_override, 'closed') = 'closed' then
        perform breakwater.wake(array[p_kind]);
    end if;
end
$$;

-- Holds a circuit open: nothing of this kind runs anywhere until it is closed or reset, or until the given time.
create function breakwater.open_circuit(
    kind text, reason text, until timestamptz default null, actor text default session_user
) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select breakwater.override_circuit(kind, 'open', reason, until, actor) $$;

-- Holds a circuit closed: its jobs run whatever happens to them, until it is opened or reset, or until the given time.
create function breakwater.close_circuit(
    kind text, reason text, until timestamptz default null, actor text default session_user
) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select breakwater.override_circuit(kind, 'closed', reason, until, actor) $$;

-- Ends any override, forgets all counts, and starts over as closed.
create function breakwater.reset_circuit(kind text, reason text, actor text default session_user) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select breakwater.override_circuit(kind, null, reason, null, actor) $$;

-- What becomes of the jobs that wait behind an open circuit, where its handler's fallback is not to hold them. At most
-- p_limit jobs a kind and call. Returns how many jobs it ended.
create function breakwater.apply_fallbacks(p_limit integer) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_policy record;
    v_ids    bigint[];
    v_count  integer := 0;
begin
    for v_policy in
        select h.kind, h.fallback, h.fallback_result, h.keep_results, c.reason
          from breakwater.circuit c join breakwater.handler h on h.kind = c.kind
         where c.state = 'open' and c.key = '' and h.fallback <> 'hold'
    loop
        v_ids := array(
            select j.id from breakwater.job j
             where j.queue = any (array(select distinct unnest(w.queues) from breakwater.worker w
                                         where v_policy.kind = any (w.kinds)))
               and j.kind = v_policy.kind and j.run_at is null and j.worker is null
             limit p_limit
               for update skip locked);
        continue when cardinality(v_ids) = 0;
        if v_policy.fallback = 'dead_letter' then
            perform breakwater.bury(i, 'circuit_open', null) from unnest(v_ids) i;
        else
            with gone as (
                delete from breakwater.job j where j.id = any (v_ids) returning j.id, j.kind
            )
            insert into breakwater.result (id, kind, result, by_fallback, expires_at)
            select g.id, g.kind, v_policy.fallback_result, true,
                   now() + greatest(v_policy.keep_results, interval '1 day')
              from gone g
            on conflict (id) do update
               set result = excluded.result, finished_at = now(), expires_at = excluded.expires_at, by_fallback = true;
        end if;
        v_count := v_count + cardinality(v_ids);
    end loop;
    return v_count;
end
$$;
