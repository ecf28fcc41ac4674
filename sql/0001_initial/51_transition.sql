-- Transitions: the function by which every change of state is made, and the transitions that time alone causes.

-- How long a circuit stays open: open_for · open_factor^reopened, at most open_cap, with equal jitter (half of it is
-- fixed, the other half is random), so that circuits that opened together are not probed together.
create function breakwater.open_time(p_policy breakwater.handler, p_reopened integer) returns interval
language sql volatile set search_path = pg_catalog, pg_temp
as $$
    -- The power is computed from its logarithm, which is bounded, so that it cannot overflow.
    select make_interval(secs => t.seconds / 2 + random() * t.seconds / 2)
      from (select least(extract(epoch from p_policy.open_cap)::double precision,
                         extract(epoch from p_policy.open_for)::double precision
                         * exp(least(p_reopened * ln(p_policy.open_factor), 300))) as seconds) t
$$;

-- A circuit's name for users: its kind, its kind and key, or the key that several kinds share.
create function breakwater.circuit_name(p_kind text, p_key text) returns text
language sql immutable
as $$ select case when p_key = '' then p_kind when p_kind = '*' then p_key else p_kind || ' [' || p_key || ']' end $$;

-- How long admission ramps up after a circuit has closed. After an outage, it is the policy's time. After a false
-- alarm, it is an eighth of that, so that good jobs hardly wait. It doubles for each further false alarm soon after, up
-- to ten times the policy's time, so that a dependency that answers a few probes but fails under load gets a slower
-- start each time.
create function breakwater.ramp_time(p_policy breakwater.handler, p_false_alarms integer) returns interval
language sql immutable set search_path = pg_catalog, pg_temp
as $$
    select p_policy.ramp * case when p_false_alarms is null then 1
                                else least(10, 2.0 ^ least(p_false_alarms, 10) / 8) end
$$;

-- Moves a circuit, whose row the caller has locked, to another state. The circuit gets a new generation, one line of
-- history, and one notification without payload data.
--
-- With `p_is_checked_first`, a closed circuit that opens is probed at once, because some bad jobs may have looked like
-- an outage. If that round fails as well, the open time begins. It grows each time the circuit opens again before it
-- has been closed for as long as it had been open. If the dependency asked for more time, it gets that, up to the cap.
create function breakwater.transition(
    p_kind text, p_key text, p_to text, p_reason text, p_actor text, p_worker bigint, p_retry_after double precision,
    p_is_checked_first boolean default false
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_old       breakwater.circuit;
    v_new       breakwater.circuit;
    v_policy    breakwater.handler;
    v_is_relapse boolean;
    v_open_for  interval;
    v_open_cap  interval;
    v_evidence  jsonb;
begin
    select * into v_old from breakwater.circuit c where c.kind = p_kind collate "C" and c.key = p_key collate "C";
    v_policy := breakwater.policy_of(p_kind, p_key);
    v_new := v_old;
    if p_actor is not null and p_to <> 'half_open' then
        -- A state that an operator sets resets the counts. An operator who starts a probe sets no state, because the
        -- probes decide.
        v_new.reopened := 0;
        v_new.was_open_for := '0';
        v_new.false_alarms := null;
        v_new.is_checked := true;
        v_new.opened_at := null;
    elsif p_to = 'open' and v_old.state = 'closed' then
        v_is_relapse := breakwater.clock() - v_old.since < v_old.was_open_for;
        v_new.reopened := case when v_is_relapse then least(v_old.reopened, 2147483646) + 1 else 0 end;
        v_new.was_open_for := case when v_is_relapse then v_old.was_open_for else '0' end;
        v_new.false_alarms := case
            when v_old.false_alarms is not null
                 and breakwater.clock() - v_old.since < coalesce(v_policy.circuit_window, interval '1 minute')
            then least(v_old.false_alarms + 1, 10) end;
        v_new.is_checked := not p_is_checked_first;
        v_new.opened_at := breakwater.clock();
    elsif p_to = 'open' and v_old.state = 'half_open' then
        v_new.reopened := case when v_old.is_checked then least(v_old.reopened, 2147483646) + 1 else v_old.reopened end;
        v_new.is_checked := true;
    elsif p_to = 'closed' and v_old.state = 'half_open' and not v_old.is_checked then
        v_new.false_alarms := coalesce(v_old.false_alarms, 0);
        v_new.opened_at := null;
    elsif p_to = 'closed' then
        v_new.was_open_for := v_old.was_open_for + coalesce(breakwater.clock() - v_old.opened_at, '0');
        v_new.false_alarms := null;
        v_new.opened_at := null;
    end if;

    if v_old.state = 'half_open' then
        v_evidence := breakwater.evidence_of_round(v_old);
    elsif p_to = 'open' and p_actor is null then
        v_evidence := breakwater.evidence_of_opening(v_old, v_policy);
    end if;

    if p_to = 'open' then
        v_open_for := case when p_is_checked_first then interval '0'
                           else coalesce(breakwater.open_time(v_policy, v_new.reopened), interval '30 seconds') end;
        if p_retry_after is not null then
            -- The number is bounded before it becomes an interval, which could not hold an absurdly large one.
            v_open_cap := coalesce(v_policy.open_cap, interval '10 minutes');
            v_open_for := least(v_open_cap, greatest(
                v_open_for, make_interval(secs => least(p_retry_after, extract(epoch from v_open_cap)))));
        end if;
    end if;
    v_new.ramp := case when p_to = 'closed' and v_old.state <> 'closed' and p_actor is null
                       then breakwater.ramp_time(v_policy, v_new.false_alarms) end;
    update breakwater.circuit c
       set state = p_to,
           generation = c.generation + 1,
           since = breakwater.clock(),
           reason = p_reason,
           retry_at = breakwater.clock() + v_open_for,
           reopened = v_new.reopened,
           opened_at = v_new.opened_at,
           was_open_for = v_new.was_open_for,
           is_checked = v_new.is_checked,
           was_down_at = case when p_to = 'open' and v_old.state = 'half_open' and p_actor is null then breakwater.clock()
                              else c.was_down_at end,
           false_alarms = v_new.false_alarms,
           successes = 0, failures = 0, slow = 0, asked_for = null,
           ramp = v_new.ramp,
           ramp_until = breakwater.clock() + v_new.ramp,
           override = null, override_actor = null, override_until = null, announced = false
     where c.kind = p_kind collate "C" and c.key = p_key collate "C";
    delete from breakwater.suspension s
     where s.kind = p_kind collate "C" and s.key = p_key collate "C" and not s.is_local;
    perform breakwater.write_history(p_kind, p_key, v_old.generation + 1, v_old.state, p_to, p_reason, p_actor,
                                     p_worker, v_evidence);
    if v_old.state <> 'closed' or p_to = 'open' then
        perform breakwater.record_incident(v_old, v_new, p_to, p_reason, p_actor, v_evidence, v_is_relapse,
                                         coalesce(v_policy.circuit_window, interval '1 minute'));
    end if;
    perform pg_notify('breakwater', 'circuit:' || p_kind);
end
$$;

-- Writes one line of a circuit's history. It also raises a NOTICE, which the calling worker logs with the keys of the
-- detail.
create function breakwater.write_history(
    p_kind text, p_key text, p_generation bigint, p_from text, p_to text, p_reason text, p_actor text, p_worker bigint,
    p_evidence jsonb
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    insert into breakwater.circuit_transition (
        kind, key, generation, from_state, to_state, reason, actor, worker, evidence, at)
    values (p_kind, p_key, p_generation, p_from, p_to, p_reason, p_actor, p_worker, p_evidence, breakwater.clock());
    raise notice 'the circuit of % went from % to %: %', breakwater.circuit_name(p_kind, p_key), p_from, p_to,
        concat_ws(': ', p_reason, breakwater.failures_in_words(p_evidence))
        using errcode = 'BW001', detail = jsonb_strip_nulls(jsonb_build_object(
            'circuit', breakwater.circuit_name(p_kind, p_key), 'from', p_from, 'to', p_to, 'reason', p_reason,
            'generation', p_generation, 'actor', p_actor, 'failures', breakwater.failures_in_words(p_evidence)));
end
$$;

-- Circuits that are not closed but have nothing to protect, because their handler's policy has changed, with the
-- reason.
--
-- If a kind has no row in breakwater.handler, its circuit is not obsolete: its workers will put the row back.
create view breakwater.obsolete_circuit as
select c.kind, c.key, w.why
  from breakwater.circuit c
  left join breakwater.handler h on h.kind = c.kind
  left join lateral (select (breakwater.policy_of('*', c.key)).circuit_enabled where c.kind = '*') s on true
 cross join lateral (
       select case
           when not coalesce(s.circuit_enabled, h.circuit_enabled) then 'its handler has no circuit any more'
           when c.kind = '*' then case when s.circuit_enabled is null then 'no handler shares it any more' end
           when h.shared_key is not null then format('its handler shares the circuit of ''%s'' now', h.shared_key)
           when c.key <> '' and h.key_path is null then 'its handler has no circuits of keys any more'
           when c.key <> '' and c.key_path <> h.key_path then 'its handler takes its keys from elsewhere now'
           end as why) w
 where c.state <> 'closed' and w.why is not null;

-- Makes the transitions that time alone causes, even if no claim uses the circuit: open circuits whose open time has
-- elapsed become half-open, half-open ones without a decision open again, and overrides expire. It also closes the
-- circuits that a change of policy made obsolete, because no more calls are counted that could close them; their
-- waiting jobs are unparked. A circuit for which no job waits stays half-open, because there is no call to decide (see
-- 56_idle.sql). Returns how many it changed.
create function breakwater.advance_circuits() returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_circuit record;
    v_count   integer := 0;
begin
    for v_circuit in
        select c.kind, c.key, c.state, c.override, c.override_until, o.why as obsolete
          from breakwater.circuit c
          left join breakwater.handler h on h.kind = c.kind
          left join breakwater.obsolete_circuit o on o.kind = c.kind and o.key = c.key
         where (c.state = 'open' and c.override is null and c.retry_at <= breakwater.clock())
            or (c.state = 'half_open'
                and c.since <= breakwater.clock() - case when c.kind = '*'
                                                         then (breakwater.policy_of(c.kind, c.key)).half_open_for
                                                         else h.half_open_for end
                and not breakwater.is_idle(c))
            or c.override_until <= breakwater.clock()
            or (c.override is null and o.why is not null)
           for update of c skip locked
    loop
        if v_circuit.override is not null then
            perform breakwater.transition(v_circuit.kind, v_circuit.key, 'closed',
                format('%s until %s', v_circuit.override, v_circuit.override_until), null, null, null);
        elsif v_circuit.obsolete is not null then
            perform breakwater.transition(v_circuit.kind, v_circuit.key, 'closed', v_circuit.obsolete, null, null, null);
        elsif v_circuit.state = 'open' then
            perform breakwater.transition(
                v_circuit.kind, v_circuit.key, 'half_open', 'its open time is over', null, null, null);
        else
            perform breakwater.transition(
                v_circuit.kind, v_circuit.key, 'open', 'half-open for too long', null, null, null);
        end if;
        v_count := v_count + 1;
    end loop;
    -- A closed circuit is kept for the key of the same name under the new path.
    update breakwater.circuit c set key_path = h.key_path
      from breakwater.handler h
     where h.kind = c.kind and c.key <> '' and c.state = 'closed' and c.key_path <> h.key_path;
    return v_count;
end
$$;
