-- Circuits. When the dependency of a kind is down, the whole fleet stops calling it, and waiting jobs spend no
-- attempts.
--
--                failure rate or a streak of failures
--      closed ────────────────────────────────────────▶ open ◀───────────────┐
--        ▲                                                │ retry_at          │ too many probes of a round fail
--        │  enough probes of a round succeed               ▼                  │ (longer each time)
--        └─────────────────────────────────────────── half_open ─────────────┘
--
-- A circuit that opened by these rules is probed at once: retry_at is the time at which it opened. Later rounds begin
-- when the open time has elapsed.
--
-- A failure that is caused by a bad job does not mean that the dependency is down. A failure is a *repeat* if its job
-- had failed before and some call of the circuit has succeeded since. It does not count for a rate, a streak or a round
-- of probes. From then on the job *fails alone*: all of its failures are repeats, even when no other job is left that
-- could succeed. Failures during an outage (until a round of probes fails for the last time) are not caused by the
-- jobs. After the outage, each job's failures count again.

-- The circuit key that a job's payload names at a path: '' if there is none, a digest if it is too long.
create function breakwater.key_of(p_payload jsonb, p_path text[]) returns text
language sql immutable
as $$
    -- This is one expression, so that the planner can inline it.
    select case when octet_length(p_payload #>> p_path) > 200 then 'md5:' || md5(p_payload #>> p_path)
                else coalesce(p_payload #>> p_path, '') end
$$;

-- The generation of a key's circuit. If the key has no circuit yet, it is minus the generation of its kind's own
-- circuit, for which the key's calls count if there are too many keys.
create function breakwater.generation_of(p_kind text, p_key text) returns bigint
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(
        (select c.generation from breakwater.circuit c
          where c.kind = p_kind collate "C" and c.key = p_key collate "C"),
        (select - c.generation from breakwater.circuit c where c.kind = p_kind collate "C" and c.key = ''),
        0);
end
$$;

-- The policy of a circuit: its kind's, or, for a shared circuit, that of the first kind, by name, that shares it. A
-- kind whose circuit is not enabled, or that no worker handles any more, is used only if there is no other.
create function breakwater.policy_of(p_kind text, p_key text) returns breakwater.handler
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return (select h from breakwater.handler h
             where breakwater.is_handler_of(h.kind, h.shared_key, p_kind, p_key)
             order by not h.circuit_enabled,
                      p_kind = '*' and not exists (select from breakwater.worker w where h.kind = any (w.kinds)),
                      h.kind
             limit 1);
end
$$;

-- The calls in a circuit's window, without repeats: those of all workers but the suspended ones, or of one worker
-- alone.
--
-- The tallies of the last minutes are in memory, so the cost is the number of rows read, and the primary key finds only
-- those of this circuit. With page costs, as for a disk, the index by slot looks cheaper, but it reads the tallies of
-- all circuits.
create function breakwater.window_of(
    p_circuit breakwater.circuit, p_policy breakwater.handler, p_worker bigint,
    out calls bigint, out failed bigint, out slow bigint, out streak bigint
)
language plpgsql stable set search_path = pg_catalog, pg_temp set seq_page_cost = 0 set random_page_cost = 0
as $$
declare
    v_recent    text;
    -- Workers whose calls do not count for the fleet. They are looked up once, rather than for each of thousands of
    -- tallies.
    v_suspended bigint[];
begin
    if p_policy.window_calls is not null and p_worker is null then
        -- A streak may be longer than the window.
        select coalesce(string_agg(r.calls, '' order by r.id), '') into v_recent
          from (select c.id, c.calls from breakwater.recent_call c
                 where c.kind = p_circuit.kind and c.key = p_circuit.key and c.generation = p_circuit.generation
                 order by c.id desc
                 limit greatest(p_policy.window_calls, breakwater.streak_limit(p_circuit, p_policy))) r;
        streak := length(v_recent) - length(rtrim(v_recent, 'fF'));
        v_recent := right(v_recent, p_policy.window_calls);
        calls := length(v_recent);
        failed := calls - length(translate(v_recent, 'fF', ''));
        slow := calls - length(translate(v_recent, 'SF', ''));
        return;
    end if;

    if p_worker is null then
        v_suspended := array(select s.worker from breakwater.suspension s
                              where s.kind = p_circuit.kind and s.key = p_circuit.key and s.times > 0
                                and not s.is_local);
    end if;
    select coalesce(sum(t.succeeded + t.failed - t.repeats), 0), coalesce(sum(t.failed - t.repeats), 0),
           coalesce(sum(t.slow), 0)
      into calls, failed, slow
      from breakwater.tally t
     where t.kind = p_circuit.kind and t.key = p_circuit.key and t.generation = p_circuit.generation
       and t.slot > breakwater.clock() - coalesce(p_policy.circuit_window, interval '1 minute')
       and case when p_worker is not null then t.worker = p_worker else t.worker <> all (v_suspended) end;
    -- Streaks of failures that began after the last success of any of these workers.
    with recent as (
        select t.trailing_failures, t.failing_since, t.last_success_at from breakwater.tally t
         where t.kind = p_circuit.kind and t.key = p_circuit.key and t.generation = p_circuit.generation
           and case when p_worker is not null then t.worker = p_worker else t.worker <> all (v_suspended) end
         order by t.slot desc
         limit 1000
    )
    select coalesce(sum(r.trailing_failures), 0) into streak
      from recent r
     where r.failing_since >= coalesce((select max(s.last_success_at) from recent s), '-infinity');
end
$$;

-- The reason to open because of a window, in words; null if there is none.
--
-- The rates are compared by division, because 7 / 100 is exactly the number 0.07, but 0.07 · 100 is above 7.
create function breakwater.verdict(
    p_policy breakwater.handler, p_streak_limit integer, p_calls bigint, p_failed bigint, p_slow bigint, p_streak bigint
) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return (select case
                when p_calls >= p_policy.minimum_calls and p_failed / nullif(p_calls, 0)::float8 >= p_policy.failure_rate
                    then format('%s of %s calls failed in %s', p_failed, p_calls, w.described)
                when p_calls >= p_policy.minimum_calls and p_slow / nullif(p_calls, 0)::float8 >= p_policy.slow_rate
                    then format('%s of %s calls were slow in %s', p_slow, p_calls, w.described)
                when p_streak >= p_streak_limit
                    then format('%s failures in a row', p_streak)
                end
              from (select coalesce(extract(epoch from p_policy.circuit_window)::numeric::float8 || ' s',
                                    'the last ' || p_policy.window_calls) as described) w);
end
$$;

-- How many failures in a row open a circuit. Usually this is the policy's number. Soon after an outage, until the
-- circuit has been closed for as long as it had been open, half as many are enough: a flapping dependency must not cost
-- the attempts of a whole streak each time, and the first probes show whether it was a false alarm. For the length of
-- the window after a false alarm, twice as many are needed, and twice as many again for each further false alarm, up to
-- eight times, because some jobs are probably bad, and the rest of them may run in a row.
create function breakwater.streak_limit(p_circuit breakwater.circuit, p_policy breakwater.handler) returns integer
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    if p_circuit.false_alarms is not null
       and breakwater.clock() - p_circuit.since < coalesce(p_policy.circuit_window, interval '1 minute') then
        return greatest(p_policy.consecutive_failures,
                        least(p_policy.consecutive_failures * 2.0 ^ least(p_circuit.false_alarms + 1, 3), 10000));
    elsif p_circuit.false_alarms is null and breakwater.clock() - p_circuit.since < p_circuit.was_open_for then
        return (p_policy.consecutive_failures + 1) / 2;
    end if;
    return p_policy.consecutive_failures;
end
$$;

-- Opens a closed circuit if its window gives a reason, or if one of these failures opens it at once. If only one worker
-- fails while others succeed, that worker is suspended instead.
create function breakwater.trip_if_due(
    p_circuit breakwater.circuit, p_calls breakwater.circuit_calls, p_worker bigint
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_trip   text := (select max(f.name) from unnest(p_calls.failures) f where f.trips);
    v_retry_after double precision := (select max(f.retry_after) from unnest(p_calls.failures) f);
    v_policy breakwater.handler;
    v_window record;
    v_own    record;
    v_reason text;
    v_alone  text;
begin
    v_policy := breakwater.policy_of(p_circuit.kind, p_circuit.key);
    if p_circuit.override in ('closed', 'disabled') or not coalesce(v_policy.circuit_enabled, false) then
        return;
    end if;

    if v_trip is not null then
        v_reason := format('%s opens it at once', v_trip);
    else
        select * into v_window from breakwater.window_of(p_circuit, v_policy, null);
        v_reason := breakwater.verdict(v_policy, breakwater.streak_limit(p_circuit, v_policy), v_window.calls,
                                       v_window.failed, v_window.slow, v_window.streak);
        -- Under metrics_only, no worker is suspended.
        if v_policy.suspends_workers and p_circuit.override is null then
            select * into v_own from breakwater.window_of(p_circuit, v_policy, p_worker);
            v_alone := breakwater.verdict(
                v_policy, greatest(v_policy.consecutive_failures, breakwater.streak_limit(p_circuit, v_policy)), v_own.calls,
                v_own.failed, v_own.slow, v_own.streak);
            if v_alone is not null then
                case breakwater.others_result(p_circuit, p_worker)
                    when 'well' then
                        perform breakwater.suspend(p_circuit, v_policy, p_worker, v_alone);
                        return;
                    -- It is too early to decide whether the dependency or this worker is at fault, so the worker waits
                    -- until this is known.
                    when 'unknown' then
                        perform breakwater.suspend_briefly(p_circuit, p_worker, v_alone);
                        return;
                    else v_reason := coalesce(v_reason, v_alone);
                end case;
            end if;
        end if;
    end if;
    if v_reason is null then
        return;
    end if;

    if p_circuit.override = 'metrics_only' then
        update breakwater.circuit c set announced = true
         where c.kind = p_circuit.kind and c.key = p_circuit.key and c.generation = p_circuit.generation
           and c.override = 'metrics_only' and not c.announced;
        if found then
            perform breakwater.write_history(p_circuit.kind, p_circuit.key, p_circuit.generation, 'closed', 'closed',
                                             'would have opened: ' || v_reason, null, p_worker,
                                             breakwater.evidence_of_opening(p_circuit, v_policy));
        end if;
        return;
    end if;

    perform from breakwater.circuit c
      where c.kind = p_circuit.kind and c.key = p_circuit.key and c.generation = p_circuit.generation
        and c.state = 'closed' and c.override is null
        for update;
    if found then
        perform breakwater.transition(
            p_circuit.kind, p_circuit.key, 'open', v_reason, null, p_worker, v_retry_after,
            v_trip is null and v_retry_after is null);
    end if;
end
$$;

-- Counts how probes ended. A round closes the circuit, or opens it again, when enough probes have ended to decide. It
-- decides at the latest after ten times as many as run at once.
--
-- A round applies the policy's own failure rate, or one half if the policy has none. Failures that would not open a
-- closed circuit do not keep one open. A round closes the circuit when successes_to_close probes have succeeded and the
-- share of failures is below the rate. It opens the circuit when that many have failed, and the share of failures among
-- the other probes has reached the rate as well: with a rate of a half, failures then lead by successes_to_close. Slow
-- calls count in the same way against slow_rate.
create function breakwater.count_probes(
    p_circuit breakwater.circuit, p_calls breakwater.circuit_calls, p_worker bigint
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_circuit breakwater.circuit;
    v_policy  breakwater.handler;
    v_trip    text;
    v_calls   integer;
    v_enough  integer;
    v_described text;
begin
    select * into v_circuit from breakwater.circuit c
     where c.kind = p_circuit.kind and c.key = p_circuit.key and c.generation = p_circuit.generation
       and c.state = 'half_open'
       for update;
    if not found then
        return;
    end if;
    v_policy := breakwater.policy_of(p_circuit.kind, p_circuit.key);
    update breakwater.circuit c
       set successes = c.successes + p_calls.succeeded,
           failures = c.failures + (select count(*) from unnest(p_calls.failures) f where not f.is_repeat),
           slow = c.slow + p_calls.slow
                  + (select count(*) from unnest(p_calls.failures) f where f.is_slow and not f.is_repeat),
           asked_for = greatest(c.asked_for, (select max(f.retry_after) from unnest(p_calls.failures) f))
     where c.kind = v_circuit.kind and c.key = v_circuit.key
    returning c.* into v_circuit;

    v_calls := v_circuit.successes + v_circuit.failures;
    if v_calls = 0 and not exists (select from unnest(p_calls.failures) f where f.trips) then
        -- Only repeats have ended. They say nothing about the dependency, so the round waits for other probes.
        return;
    end if;
    v_enough := coalesce(v_policy.successes_to_close, 1);
    v_described := format('%s of %s probes failed', v_circuit.failures, v_calls)
                   || case when v_policy.slow_rate is not null and v_circuit.slow > 0
                           then format(', %s were slow', v_circuit.slow) else '' end;
    v_trip := (select max(f.name) from unnest(p_calls.failures) f where f.trips);
    if v_trip is not null then
        perform breakwater.transition(v_circuit.kind, v_circuit.key, 'open', format('%s opens it at once', v_trip),
                                      null, p_worker, v_circuit.asked_for);
    elsif breakwater.is_too_many(v_circuit.failures, v_calls, coalesce(v_policy.failure_rate, 0.5), v_enough)
       or breakwater.is_too_many(v_circuit.slow, v_calls, v_policy.slow_rate, v_enough)
    then
        perform breakwater.transition(v_circuit.kind, v_circuit.key, 'open', v_described, null, p_worker,
                                      v_circuit.asked_for);
    elsif v_circuit.failures / v_calls::float8 < coalesce(v_policy.failure_rate, 0.5)
      and coalesce(v_circuit.slow / v_calls::float8 < v_policy.slow_rate, true)
    then
        if v_circuit.successes >= v_enough then
            perform breakwater.transition(
                v_circuit.kind, v_circuit.key, 'closed',
                case when v_circuit.failures = 0 then format('%s probes succeeded', v_circuit.successes)
                     else v_described end, null, p_worker, null);
        end if;
    elsif v_calls >= 10 * greatest(coalesce(v_policy.probes, 1), v_enough) then
        perform breakwater.transition(v_circuit.kind, v_circuit.key, 'open', v_described, null, p_worker,
                                      v_circuit.asked_for);
    end if;
end
$$;

-- Whether p_bad bad calls out of p_calls decide a round: at least p_enough are bad, and the share of bad ones among the
-- calls besides those reaches the rate. False if there is no rate.
create function breakwater.is_too_many(p_bad integer, p_calls integer, p_rate double precision, p_enough integer)
returns boolean
language sql immutable
as $$
    select coalesce(p_bad >= p_enough
                    and (p_bad - p_enough) >= p_rate * (p_calls - p_enough), false)
$$;
