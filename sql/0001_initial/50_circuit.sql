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

-- The circuit key that a job's payload names at a path: '' where there is nothing, a digest where it is too long.
create function breakwater.key_of(p_payload jsonb, p_path text[]) returns text
language sql immutable
as $$
    -- One expression, so that it is put in place instead of called.
    select case when octet_length(p_payload #>> p_path) > 200 then 'md5:' || md5(p_payload #>> p_path)
                else coalesce(p_payload #>> p_path, '') end
$$;

-- The generation of a key's circuit. For a key that has none yet, minus that of its kind's own circuit, for which its
-- calls count if there are too many keys.
create function breakwater.generation_of(p_kind text, p_key text) returns bigint
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select coalesce((select c.generation from breakwater.circuit c
                      where c.kind = p_kind collate "C" and c.key = p_key collate "C"),
                    (select - c.generation from breakwater.circuit c where c.kind = p_kind collate "C" and c.key = ''),
                    0)
$$;

-- The policy that rules a circuit: its kind's, or for a shared one that of the first kind, by name, that shares it.
create function breakwater.policy_of(p_kind text, p_key text) returns breakwater.handler
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select h from breakwater.handler h
     where case when p_kind = '*' then h.shared_key = p_key collate "C" else h.kind = p_kind collate "C" end
     order by h.kind
     limit 1
$$;

-- Tallies calls, and moves the circuits that they move. Closed circuits with no failures are only tallied.
--
-- A key gets a circuit of its own with its first failure, so healthy keys cost nothing; at most 1,000 keys a kind, the
-- others count for the kind's own circuit.
--
-- Locks: this worker's tally row of the present second, then the row of each circuit that has reason to move.
create function breakwater.record_calls(p_worker bigint, p_counts breakwater.counts[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_calls   record;
    v_circuit breakwater.circuit;
    v_kind    text;
    v_key     text;
    v_counts  boolean;
begin
    for v_calls in
        select c.kind, c.key, c.generation, sum(c.succeeded)::integer as succeeded, sum(c.failed)::integer as failed,
               sum(c.slow)::integer as slow, sum(c.retries)::integer as retries,
               -- Failures first: a success that was settled with them ends a streak.
               string_agg(c.calls, '' order by c.failed desc, c.slow desc) as calls, max(c.trip) as trip,
               max(c.retry_after) as retry_after,
               h.shared_key, h.key_path is not null as has_keys, h.circuit_enabled, h.window_calls
          from (select u.kind, u.succeeded, u.failed, u.slow, u.retries, u.calls, u.trip, u.retry_after,
                       case when w.is_watched then u.key end as key,
                       case when w.is_watched then u.generation else 0 end as generation
                  from (select p.*, bool_or(p.failed > 0) over (partition by p.kind, p.key) as has_failed
                          from unnest(p_counts) p) u
                  join breakwater.handler o on o.kind = u.kind collate "C"
                 cross join lateral (
                       -- Healthy keys that have no circuit are counted together, without a key.
                       select u.key = '' or o.key_path is null or o.shared_key is not null or u.has_failed or exists (
                              select from breakwater.circuit k
                               where k.kind = u.kind collate "C" and k.key = u.key collate "C") as is_watched) w) c
          join breakwater.handler h on h.kind = c.kind collate "C"
         group by c.kind, c.key, c.generation, h.kind
         -- In the order of circuits, so that those who wait for each other's circuits do so in one order.
         order by case when h.shared_key is null then c.kind else '*' end collate "C",
                  coalesce(h.shared_key, c.key) collate "C", c.kind, c.generation
    loop
        -- The circuit that the calls belong to.
        v_kind := case when v_calls.shared_key is null then v_calls.kind else '*' end;
        v_key := coalesce(v_calls.shared_key, case when v_calls.has_keys then v_calls.key else '' end);
        if v_calls.has_keys and v_key <> '' and v_calls.failed > 0 and (
               select count(*) from (select from breakwater.circuit c
                                      where c.kind = v_kind collate "C" and c.key <> '' limit 1000) k) < 1000
        then
            insert into breakwater.circuit (kind, key) values (v_kind, v_key) on conflict do nothing;
        end if;
        select * into v_circuit from breakwater.circuit c
         where c.kind = v_kind collate "C" and c.key = v_key collate "C";
        if not found and v_calls.failed > 0 then
            v_key := '';
            select * into v_circuit from breakwater.circuit c where c.kind = v_kind collate "C" and c.key = '';
            v_calls.generation := abs(v_calls.generation);
        end if;

        -- For its kind always, for people and for the retry budget; and for another circuit, if it is watched.
        v_counts := coalesce(v_circuit.override, '') <> 'disabled' and v_calls.circuit_enabled;
        if not v_counts or (v_circuit.kind, v_circuit.key) is distinct from (v_calls.kind, '') then
            perform breakwater.tally(p_worker, v_calls.kind, '', 0, v_calls.succeeded, v_calls.failed, v_calls.slow,
                                     v_calls.retries);
        end if;
        continue when v_circuit.kind is null or not v_counts;
        -- What was claimed before its key had a circuit counts for the circuit's first generation.
        v_calls.generation := greatest(v_calls.generation, 1);
        perform breakwater.tally(p_worker, v_circuit.kind, v_circuit.key, v_calls.generation, v_calls.succeeded,
                                 v_calls.failed, v_calls.slow, v_calls.retries);
        if v_calls.window_calls is not null then
            insert into breakwater.recent_call (kind, key, generation, calls)
            values (v_circuit.kind, v_circuit.key, v_calls.generation, v_calls.calls);
        end if;

        continue when v_calls.generation <> v_circuit.generation;
        if v_circuit.state = 'closed' then
            if v_calls.succeeded > 0 then
                delete from breakwater.suspension s
                 where s.kind = v_circuit.kind and s.key = v_circuit.key and s.worker = p_worker
                   and s.until <= breakwater.clock() and not s.is_local;
            end if;
            if v_calls.failed > 0 or v_calls.slow > 0 then
                perform breakwater.trip_if_due(v_circuit, v_calls.trip, v_calls.retry_after, p_worker);
            end if;
        elsif v_circuit.state = 'half_open' then
            perform breakwater.count_probes(v_circuit, v_calls.succeeded, v_calls.failed, v_calls.slow,
                                            v_calls.retry_after, p_worker);
        end if;
    end loop;
end
$$;

-- Adds to a worker's tally row of the present second. Its run of failures starts anew when another worker's success in
-- the same second interrupted it.
create function breakwater.tally(
    p_worker bigint, p_kind text, p_key text, p_generation bigint, p_succeeded integer, p_failed integer,
    p_slow integer, p_retries integer
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    insert into breakwater.tally as t (
        kind, key, generation, slot, worker, succeeded, failed, slow, retries, trailing_failures, failing_since,
        last_success_at)
    values (p_kind, p_key, p_generation, date_trunc('second', breakwater.clock()), p_worker,
            p_succeeded, p_failed, p_slow, p_retries,
            case when p_succeeded > 0 then 0 else p_failed end,
            case when p_succeeded = 0 and p_failed > 0 then breakwater.clock() end,
            case when p_succeeded > 0 then breakwater.clock() end)
    on conflict (kind, key, generation, slot, worker) do update
       set succeeded = t.succeeded + excluded.succeeded,
           failed = t.failed + excluded.failed,
           slow = t.slow + excluded.slow,
           retries = t.retries + excluded.retries,
           (trailing_failures, failing_since) = (
               select case when excluded.succeeded > 0 then 0
                           when o.was_interrupted then excluded.failed
                           else t.trailing_failures + excluded.failed end,
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

-- What a circuit's window holds, of all workers but the suspended ones, or of one worker alone.
--
-- The tallies of the last minutes are in memory, so what counts is how many rows are read: by their primary key those of
-- this circuit. Counted by pages, as on a disk, the index by slot looks cheaper, and reads those of all circuits.
create function breakwater.window_of(
    p_circuit breakwater.circuit, p_policy breakwater.handler, p_worker bigint,
    out calls bigint, out failed bigint, out slow bigint, out streak bigint
)
language plpgsql stable set search_path = pg_catalog, pg_temp set seq_page_cost = 0 set random_page_cost = 0
as $$
declare
    v_recent    text;
    -- Whose calls do not count for the fleet. Asked once, and not for each of thousands of tallies.
    v_suspended bigint[];
begin
    if p_policy.window_calls is not null and p_worker is null then
        -- A streak may be longer than the window.
        select coalesce(string_agg(r.calls, '' order by r.id), '') into v_recent
          from (select c.id, c.calls from breakwater.recent_call c
                 where c.kind = p_circuit.kind and c.key = p_circuit.key and c.generation = p_circuit.generation
                 order by c.id desc
                 limit greatest(p_policy.window_calls, p_policy.consecutive_failures)) r;
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
    select coalesce(sum(t.succeeded + t.failed), 0), coalesce(sum(t.failed), 0), coalesce(sum(t.slow), 0)
      into calls, failed, slow
      from breakwater.tally t
     where t.kind = p_circuit.kind and t.key = p_circuit.key and t.generation = p_circuit.generation
       and t.slot > breakwater.clock() - coalesce(p_policy.circuit_window, interval '1 minute')
       and case when p_worker is not null then t.worker = p_worker else t.worker <> all (v_suspended) end;
    -- Runs of failures that began after the last success of anybody.
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

-- Why a window is reason to open, in words; null if it is not.
--
-- The rates are divided, not multiplied: 7 of 100 is exactly as near to 0.07 as a number can be, and 0.07 · 100 is above 7.
create function breakwater.verdict(
    p_policy breakwater.handler, p_calls bigint, p_failed bigint, p_slow bigint, p_streak bigint
) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select case
        when p_calls >= p_policy.minimum_calls and p_failed / nullif(p_calls, 0)::float8 >= p_policy.failure_rate
            then format('%s of %s calls failed in %s', p_failed, p_calls, w.described)
        when p_calls >= p_policy.minimum_calls and p_slow / nullif(p_calls, 0)::float8 >= p_policy.slow_rate
            then format('%s of %s calls were slow in %s', p_slow, p_calls, w.described)
        when p_streak >= p_policy.consecutive_failures
            then format('%s failures in a row', p_streak)
        end
      from (select coalesce(extract(epoch from p_policy.circuit_window)::numeric::float8 || ' s',
                            'the last ' || p_policy.window_calls) as described) w
$$;

-- Opens a closed circuit if its window says so, or this one failure does. Where one worker alone fails while others
-- succeed, that worker is suspended instead.
create function breakwater.trip_if_due(
    p_circuit breakwater.circuit, p_trip text, p_retry_after double precision, p_worker bigint
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
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

    if p_trip is not null then
        v_reason := format('%s opens it at once', p_trip);
    else
        select * into v_window from breakwater.window_of(p_circuit, v_policy, null);
        v_reason := breakwater.verdict(v_policy, v_window.calls, v_window.failed, v_window.slow, v_window.streak);
        -- Under metrics_only nobody is stopped.
        if v_policy.suspends_workers and p_circuit.override is null then
            select * into v_own from breakwater.window_of(p_circuit, v_policy, p_worker);
            v_alone := breakwater.verdict(v_policy, v_own.calls, v_own.failed, v_own.slow, v_own.streak);
            if v_alone is not null then
                case breakwater.others_fare(p_circuit, p_worker)
                    when 'well' then
                        perform breakwater.suspend(p_circuit, v_policy, p_worker, v_alone);
                        return;
                    -- Too early to tell whether it is the dependency or this worker: it waits until that is known.
                    when 'unknown' then
                        perform breakwater.hold(p_circuit, p_worker, v_alone);
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
                                             'would have opened: ' || v_reason, null, p_worker);
        end if;
        return;
    end if;

    perform from breakwater.circuit c
      where c.kind = p_circuit.kind and c.key = p_circuit.key and c.generation = p_circuit.generation
        and c.state = 'closed' and c.override is null
        for update;
    if found then
        perform breakwater.transition(p_circuit.kind, p_circuit.key, 'open', v_reason, null, p_worker, p_retry_after);
    end if;
end
$$;

-- Counts the ends of probes, and closes or re-opens the circuit. A slow success re-opens it too, where slow calls count.
create function breakwater.count_probes(
    p_circuit breakwater.circuit, p_succeeded integer, p_failed integer, p_slow integer,
    p_retry_after double precision, p_worker bigint
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_circuit breakwater.circuit;
    v_policy  breakwater.handler;
begin
    select * into v_circuit from breakwater.circuit c
     where c.kind = p_circuit.kind and c.key = p_circuit.key and c.generation = p_circuit.generation
       and c.state = 'half_open'
       for update;
    if not found then
        return;
    end if;
    v_policy := breakwater.policy_of(p_circuit.kind, p_circuit.key);
    if p_failed > 0 then
        perform breakwater.transition(v_circuit.kind, v_circuit.key, 'open', 'a probe failed', null, p_worker,
                                      p_retry_after);
    elsif p_slow > 0 and v_policy.slow_rate is not null then
        perform breakwater.transition(v_circuit.kind, v_circuit.key, 'open', 'a probe was slow', null, p_worker, null);
    elsif v_circuit.successes + p_succeeded >= coalesce(v_policy.successes_to_close, 1) then
        perform breakwater.transition(
            v_circuit.kind, v_circuit.key, 'closed',
            format('%s probes succeeded', v_circuit.successes + p_succeeded), null, p_worker, null);
    else
        update breakwater.circuit c set successes = c.successes + p_succeeded
         where c.kind = v_circuit.kind and c.key = v_circuit.key;
    end if;
end
$$;
