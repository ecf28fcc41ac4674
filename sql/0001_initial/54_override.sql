-- Overrides, by which an operator controls a circuit instead of the breaker.

-- Returns the circuit that an operator is about to change, with its row locked. Refused without a reason, or if the
-- circuit does not exist.
create function breakwater.lock_circuit(p_kind text, p_key text, p_reason text) returns breakwater.circuit
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_circuit breakwater.circuit;
begin
    if p_reason is null or p_reason = '' then
        raise exception 'a reason is needed' using errcode = '22023',
            hint = 'It goes into the circuit''s history, for the people who read it next.';
    end if;
    select * into v_circuit from breakwater.circuit c
     where c.kind = p_kind collate "C" and c.key = p_key collate "C" for update;
    if not found then
        raise exception 'there is no circuit of %', quote_literal(breakwater.circuit_name(p_kind, p_key))
            using errcode = 'P0002',
            hint = 'A worker that handles the kind creates its circuit when it starts; '
                   || 'SELECT kind, key FROM breakwater.circuit lists them.';
    end if;
    return v_circuit;
end
$$;

-- The common part of the overrides below. Locks the circuit's row.
create function breakwater.override_circuit(
    p_kind text, p_key text, p_override text, p_reason text, p_until timestamptz, p_actor text
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if p_until <= breakwater.clock() then
        raise exception 'the time % is in the past', p_until using errcode = '22023';
    end if;
    perform breakwater.lock_circuit(p_kind, p_key, p_reason);
    perform breakwater.transition(p_kind, p_key, case when p_override = 'open' then 'open' else 'closed' end,
                                  p_reason, coalesce(p_actor, '?'), null, null);
    update breakwater.circuit c
       set override = p_override,
           override_actor = case when p_override is not null then p_actor end,
           override_until = p_until,
           retry_at = null
     where c.kind = p_kind collate "C" and c.key = p_key collate "C";
    perform breakwater.record_action(
        p_actor, 'circuit.' || case p_override when 'open' then 'open' when 'closed' then 'close'
                                               when 'disabled' then 'disable' when 'metrics_only' then 'observe'
                                               else 'reset' end,
        breakwater.circuit_name(p_kind, p_key), p_reason,
        jsonb_strip_nulls(jsonb_build_object('kind', p_kind, 'key', p_key, 'until', p_until)));
    if p_override is distinct from 'open' then
        perform breakwater.wake(array[p_kind]);
    end if;
end
$$;

-- Holds a circuit open: none of its jobs run anywhere until it is closed or reset, or until the given time.
create function breakwater.open_circuit(
    kind text, reason text, until timestamptz default null, actor text default session_user, key text default ''
) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select breakwater.override_circuit(kind, key, 'open', reason, until, actor) $$;

-- Holds a circuit closed: its jobs run, however they end, until it is opened or reset, or until the given time.
create function breakwater.close_circuit(
    kind text, reason text, until timestamptz default null, actor text default session_user, key text default ''
) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select breakwater.override_circuit(kind, key, 'closed', reason, until, actor) $$;

-- Switches a circuit off: its jobs run, and nothing is counted.
create function breakwater.disable_circuit(
    kind text, reason text, until timestamptz default null, actor text default session_user, key text default ''
) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select breakwater.override_circuit(kind, key, 'disabled', reason, until, actor) $$;

-- Lets a circuit only count: its jobs run, and its history records once that it would have opened.
create function breakwater.observe_circuit(
    kind text, reason text, until timestamptz default null, actor text default session_user, key text default ''
) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select breakwater.override_circuit(kind, key, 'metrics_only', reason, until, actor) $$;

-- Ends any override, resets all counts, and starts again as closed.
create function breakwater.reset_circuit(
    kind text, reason text, actor text default session_user, key text default ''
) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select breakwater.override_circuit(kind, key, null, reason, null, actor) $$;

-- Ends the open time of a circuit now: it becomes half-open, and its next jobs are probes. They decide as they would
-- have at the end of the open time. If they fail, the next open time is as long as it would have been then.
create function breakwater.probe_circuit(
    kind text, reason text, actor text default session_user, key text default ''
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_circuit breakwater.circuit := breakwater.lock_circuit(probe_circuit.kind, probe_circuit.key, reason);
    v_name    text := breakwater.circuit_name(v_circuit.kind, v_circuit.key);
begin
    if v_circuit.override is not null then
        raise exception 'the circuit of % is % by %', quote_literal(v_name),
                case v_circuit.override when 'disabled' then 'switched off' when 'metrics_only' then 'only observed'
                                        else 'held ' || v_circuit.override end,
                coalesce(v_circuit.override_actor, '?')
            using errcode = '22023', hint = 'Reset it to give it back to the breaker; it is not probed before.';
    elsif v_circuit.state = 'half_open' then
        raise exception 'the circuit of % is half-open: it is probed already', quote_literal(v_name)
            using errcode = '22023', hint = 'Wait for its probes; SELECT * FROM breakwater.probe lists those that are out.';
    elsif v_circuit.state = 'closed' then
        raise exception 'the circuit of % is closed: all of its jobs run', quote_literal(v_name)
            using errcode = '22023', hint = 'Only an open circuit is probed.';
    end if;
    perform breakwater.transition(v_circuit.kind, v_circuit.key, 'half_open', reason, coalesce(actor, '?'), null, null);
    perform breakwater.record_action(actor, 'circuit.probe', v_name, reason,
                                     jsonb_build_object('kind', v_circuit.kind, 'key', v_circuit.key));
    perform breakwater.wake(array[v_circuit.kind]);
end
$$;
