-- Half-open circuits that have no jobs to probe with. Only a call can decide, and there will be none for a while,
-- because the kind or the key has no jobs.

-- Whether no job waits for a circuit: no probe is running, and no job of its kinds waits (for a key's circuit: no job
-- of the key is parked). Scheduled jobs that are not due do not count, unless they have run before.
create function breakwater.is_idle(p_circuit breakwater.circuit) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_bitmapscan = off
as $$
declare
    v_kinds text[];
begin
    if exists (select from breakwater.probe p
                where p.kind = p_circuit.kind and p.key = p_circuit.key and p.expires_at > breakwater.clock()) then
        return false;
    end if;
    if p_circuit.key <> '' and p_circuit.kind <> '*' then
        return not exists (select from breakwater.job j where j.kind = p_circuit.kind and j.parked = p_circuit.key);
    end if;
    v_kinds := breakwater.kinds_of(p_circuit.kind, p_circuit.key);
    -- Jobs that are ready or held, parked jobs, jobs that a rule holds back, jobs that wait to run again, and probes
    -- whose attempts were handed back.
    return not exists (select from breakwater.lane a
                        cross join lateral (
                              select from breakwater.job j
                               where j.queue = a.queue and j.kind = a.kind and j.priority = a.priority and j.run_at is null
                               limit 1) w
                        where a.kind = any (v_kinds))
       and not exists (select from breakwater.job j where j.kind = any (v_kinds) and j.parked is not null)
       and not exists (select from breakwater.job j where j.kind = any (v_kinds) and j.rule is not null)
       and not exists (select from breakwater.job j
                        where j.kind = any (v_kinds) and j.run_at is not null and j.attempt > 0)
       and not exists (select from breakwater.probe_result r
                         join breakwater.job j on j.id = r.job
                        where r.kind = p_circuit.kind and r.key = p_circuit.key);
end
$$;

-- How long a half-open circuit waits for a job: an hour. If calls succeeded just before the circuit opened, open_for is
-- enough, because perhaps only some bad jobs failed, and they have ended. This does not apply to a key's circuit, or if
-- a fallback removes the jobs, because there the lack of waiting jobs means little.
create function breakwater.idle_timeout(p_circuit breakwater.circuit) returns interval
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    v_policy breakwater.handler;
begin
    if p_circuit.key <> '' and p_circuit.kind <> '*' then
        return interval '1 hour';
    end if;
    v_policy := breakwater.policy_of(p_circuit.kind, p_circuit.key);
    if v_policy.fallback = 'hold'
       and exists (select from breakwater.tally t
                    where t.kind = p_circuit.kind and t.key = p_circuit.key
                      and t.last_success_at > p_circuit.opened_at - coalesce(v_policy.circuit_window, interval '1 minute'))
    then
        return least(v_policy.open_for, interval '1 hour');
    end if;
    return interval '1 hour';
end
$$;

-- Closes half-open circuits for which no job waits and that have waited long enough for one, because otherwise their
-- incidents would never end.
--
-- A key gets a circuit with its first failure, and a kind has at most 1,000 of these (see
-- breakwater.create_key_circuits). If a kind has more than 900, idle ones are closed and deleted sooner, until 800 are
-- left. Those that have been in their state the longest go first. The leader runs this as maintenance. Returns how many
-- it closed.
--
-- Locks: the circuits' rows, by SKIP LOCKED.
create function breakwater.close_idle_circuits() returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_circuit breakwater.circuit;
    v_count   integer := 0;
begin
    for v_circuit in
        select c.* from breakwater.circuit c
         where c.state = 'half_open' and c.override is null
           -- The cheaper condition comes first, because there may be a thousand keys, and most of them have not waited
           -- long enough.
           and case when c.since <= breakwater.clock() - breakwater.idle_timeout(c) then breakwater.is_idle(c) end
           for update skip locked
    loop
        perform breakwater.transition(
            v_circuit.kind, v_circuit.key, 'closed',
            case when v_circuit.key <> '' and v_circuit.kind <> '*' then 'no job of this key has come for an hour'
                 else 'no job waits' end,
            null, null, null);
        v_count := v_count + 1;
    end loop;
    for v_circuit in
        select c.*
          from (select k.kind, count(*) - 800 as surplus from breakwater.circuit k
                 where k.key <> '' and k.kind <> '*' group by k.kind having count(*) > 900) full_kind
         cross join lateral (
               select k.* from breakwater.circuit k
                where k.kind = full_kind.kind and k.key <> '' and k.state <> 'open' and k.override is null
                  and breakwater.is_idle(k)
                  and not exists (select from breakwater.tally t
                                   where t.kind = k.kind and t.key = k.key
                                     and t.slot > breakwater.clock() - interval '1 minute')
                order by k.since
                limit full_kind.surplus) c
    loop
        perform from breakwater.circuit c
          where c.kind = v_circuit.kind and c.key = v_circuit.key and c.generation = v_circuit.generation
            for update skip locked;
        continue when not found;
        if v_circuit.state = 'half_open' then
            perform breakwater.transition(
                v_circuit.kind, v_circuit.key, 'closed', 'no job of this key waits, and others need the room', null, null,
                null);
            v_count := v_count + 1;
        end if;
        delete from breakwater.circuit c where c.kind = v_circuit.kind and c.key = v_circuit.key;
    end loop;
    return v_count;
end
$$;
