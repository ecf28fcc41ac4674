-- Overrides: circuits taken out of the breaker's hands, by people.

-- What the overrides below have in common. Locks the circuit's row.
create function breakwater.override_circuit(
    p_kind text, p_key text, p_override text, p_reason text, p_until timestamptz, p_actor text
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
    perform from breakwater.circuit c
      where c.kind = p_kind collate "C" and c.key = p_key collate "C" for update;
    if not found then
        raise exception 'there is no circuit of %', quote_literal(breakwater.circuit_name(p_kind, p_key))
            using errcode = 'P0002',
            hint = 'A worker that handles the kind creates its circuit when it starts; '
                   || 'SELECT kind, key FROM breakwater.circuit lists them.';
    end if;
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

-- Holds a circuit open: nothing of it runs anywhere until it is closed or reset, or until the given time.
create function breakwater.open_circuit(
    kind text, reason text, until timestamptz default null, actor text default session_user, key text default ''
) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select breakwater.override_circuit(kind, key, 'open', reason, until, actor) $$;

-- Holds a circuit closed: its jobs run whatever happens to them, until it is opened or reset, or until the given time.
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

-- Lets a circuit count only: its jobs run, and its history says, once, when it would have opened.
create function breakwater.observe_circuit(
    kind text, reason text, until timestamptz default null, actor text default session_user, key text default ''
) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select breakwater.override_circuit(kind, key, 'metrics_only', reason, until, actor) $$;

-- Ends any override, forgets all counts, and starts over as closed.
create function breakwater.reset_circuit(
    kind text, reason text, actor text default session_user, key text default ''
) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select breakwater.override_circuit(kind, key, null, reason, null, actor) $$;
