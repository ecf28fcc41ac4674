-- Transitions: the one way from a state to another, and those that time alone makes.

-- How long a circuit stays open: open_for · open_factor^reopened, at most open_cap, with equal jitter (half of it
-- for certain, the other half by chance), so that circuits that opened together are not probed together.
create function breakwater.open_time(p_policy breakwater.handler, p_reopened integer) returns interval
language sql volatile set search_path = pg_catalog, pg_temp
as $$
    -- By its logarithm, which is bounded, so that the power does not overflow long after the cap is reached.
    select make_interval(secs => t.seconds / 2 + random() * t.seconds / 2)
      from (select least(extract(epoch from p_policy.open_cap)::double precision,
                         extract(epoch from p_policy.open_for)::double precision
                         * exp(least(p_reopened * ln(p_policy.open_factor), 300))) as seconds) t
$$;

-- A circuit's name for people: its kind, its kind and key, or the key that several kinds share.
create function breakwater.circuit_name(p_kind text, p_key text) returns text
language sql immutable
as $$ select case when p_key = '' then p_kind when p_kind = '*' then p_key else p_kind || ' [' || p_key || ']' end $$;

-- Moves a circuit, whose row the caller has locked, to another state: new generation, one line of history, one
-- notification without payload data. Open time grows while it re-opens without having been closed; what the dependency
-- asked for goes before it, up to the cap.
create function breakwater.transition(
    p_kind text, p_key text, p_to text, p_reason text, p_actor text, p_worker bigint, p_retry_after double precision
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_old      breakwater.circuit;
    v_policy   breakwater.handler;
    v_reopened integer;
    v_open_for interval;
    v_open_cap interval;
begin
    select * into v_old from breakwater.circuit c where c.kind = p_kind collate "C" and c.key = p_key collate "C";
    v_policy := breakwater.policy_of(p_kind, p_key);
    v_reopened := case when p_to = 'closed' or v_old.state = 'closed' then 0
                       when p_to = 'open' and v_old.state = 'half_open' then least(v_old.reopened, 2147483646) + 1
                       else v_old.reopened end;
    v_open_for := coalesce(breakwater.open_time(v_policy, v_reopened), interval '30 seconds');
    if p_retry_after is not null then
        -- The number is bounded before it becomes an interval, which could not hold an absurd one.
        v_open_cap := coalesce(v_policy.open_cap, interval '10 minutes');
        v_open_for := least(v_open_cap, greatest(
            v_open_for, make_interval(secs => least(p_retry_after, extract(epoch from v_open_cap)))));
    end if;
    update breakwater.circuit c
       set state = p_to,
           generation = c.generation + 1,
           since = breakwater.clock(),
           reason = p_reason,
           retry_at = case when p_to = 'open' then breakwater.clock() + v_open_for end,
           reopened = v_reopened,
           successes = 0,
           ramp_until = case when p_to = 'closed' and v_old.state <> 'closed' and p_actor is null
                             then breakwater.clock() + v_policy.ramp end,
           override = null, override_actor = null, override_until = null, announced = false
     where c.kind = p_kind collate "C" and c.key = p_key collate "C";
    delete from breakwater.suspension s
     where s.kind = p_kind collate "C" and s.key = p_key collate "C" and not s.is_local;
    perform breakwater.write_history(p_kind, p_key, v_old.generation + 1, v_old.state, p_to, p_reason, p_actor,
                                     p_worker);
    perform pg_notify('breakwater', 'circuit:' || p_kind);
end
$$;

-- One line of a circuit's history; and a NOTICE, which the one worker whose call this is puts into its log, with the
-- detail's keys.
create function breakwater.write_history(
    p_kind text, p_key text, p_generation bigint, p_from text, p_to text, p_reason text, p_actor text, p_worker bigint
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    insert into breakwater.circuit_transition (kind, key, generation, from_state, to_state, reason, actor, worker, at)
    values (p_kind, p_key, p_generation, p_from, p_to, p_reason, p_actor, p_worker, breakwater.clock());
    raise notice 'the circuit of % went from % to %: %', breakwater.circuit_name(p_kind, p_key), p_from, p_to, p_reason
        using errcode = 'BW001', detail = jsonb_strip_nulls(jsonb_build_object(
            'circuit', breakwater.circuit_name(p_kind, p_key), 'from', p_from, 'to', p_to, 'reason', p_reason,
            'generation', p_generation, 'actor', p_actor));
end
$$;

-- Moves circuits that time alone moves, even where no job asks: open ones whose time is over become half-open, half-open
-- ones that do not come to a decision re-open, overrides run out; and those close whose handler was switched to having
-- no circuit, since nothing is counted that could close them. Returns how many.
create function breakwater.turn_circuits() returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_circuit breakwater.circuit;
    v_count   integer := 0;
begin
    for v_circuit in
        select c.* from breakwater.circuit c
         where (c.state = 'open' and c.override is null and c.retry_at <= breakwater.clock())
            or (c.state = 'half_open'
                and c.since <= breakwater.clock() - (breakwater.policy_of(c.kind, c.key)).half_open_for)
            or c.override_until <= breakwater.clock()
            or (c.state <> 'closed' and c.override is null
                and not (breakwater.policy_of(c.kind, c.key)).circuit_enabled)
           for update skip locked
    loop
        if v_circuit.override is not null then
            perform breakwater.transition(v_circuit.kind, v_circuit.key, 'closed',
                format('%s until %s', v_circuit.override, v_circuit.override_until), null, null, null);
        elsif not (breakwater.policy_of(v_circuit.kind, v_circuit.key)).circuit_enabled then
            perform breakwater.transition(
                v_circuit.kind, v_circuit.key, 'closed', 'its handler has no circuit any more', null, null, null);
        elsif v_circuit.state = 'open' then
            perform breakwater.transition(
                v_circuit.kind, v_circuit.key, 'half_open', 'its open time is over', null, null, null);
        else
            perform breakwater.transition(
                v_circuit.kind, v_circuit.key, 'open', 'half-open for too long', null, null, null);
        end if;
        v_count := v_count + 1;
    end loop;
    return v_count;
end
$$;
