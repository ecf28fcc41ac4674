-- Circuits of keys come and go: a key gets one with its first failure, and loses it when nothing of it is left. A kind has
-- at most 1,000 (see breakwater.create_key_circuits), so keys that are dead must make room for others.

-- Whether a circuit is that of a key of which no job is parked, and no probe is under way.
create function breakwater.is_idle_key(p_circuit breakwater.circuit) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_bitmapscan = off
as $$
    select p_circuit.key <> '' and p_circuit.kind <> '*'
       and not exists (select from breakwater.job j where j.kind = p_circuit.kind and j.parked = p_circuit.key)
       and not exists (select from breakwater.probe p
                        where p.kind = p_circuit.kind and p.key = p_circuit.key and p.expires_at > breakwater.clock())
$$;

-- Closes circuits of keys that have been half-open for an hour and of which nothing waits: no job will decide, and an
-- incident would go on for ever. Where a kind has more than 900 keys, it closes and deletes such circuits sooner, those
-- first that have been as they are for the longest, until 800 are left. A leader's chore. Returns how many it closed.
--
-- Locks: the circuits' rows, by SKIP LOCKED.
create function breakwater.close_idle_keys() returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_circuit breakwater.circuit;
    v_count   integer := 0;
begin
    for v_circuit in
        select c.* from breakwater.circuit c
         where c.state = 'half_open' and c.override is null and c.since <= breakwater.clock() - interval '1 hour'
           and breakwater.is_idle_key(c)
           for update skip locked
    loop
        perform breakwater.transition(
            v_circuit.kind, v_circuit.key, 'closed', 'no job of this key has come for an hour', null, null, null);
        v_count := v_count + 1;
    end loop;
    for v_circuit in
        select c.*
          from (select k.kind, count(*) - 800 as surplus from breakwater.circuit k
                 where k.key <> '' and k.kind <> '*' group by k.kind having count(*) > 900) full_kind
         cross join lateral (
               select k.* from breakwater.circuit k
                where k.kind = full_kind.kind and k.key <> '' and k.state <> 'open' and k.override is null
                  and breakwater.is_idle_key(k)
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
