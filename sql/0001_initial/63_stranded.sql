-- Jobs that would never run: ready ones that no claim can see, and jobs that are held by a worker that does not exist.
-- Restored tables and manual changes leave such jobs behind, so the leader searches for them.

-- Gives a new position to ready jobs that wait at or below the floors of their lanes, where no claim searches any more:
-- at most p_limit jobs, in a random share of the lanes. Returns how many. The leader runs this as maintenance.
--
-- A trigger gives a job a new position when an UPDATE moves it (see breakwater.record_move). A job that is found here
-- was written without that trigger, or the row of breakwater.claim that held it was deleted.
--
-- It does nothing while the table has very many dead rows, because it would have to read each of them. Locks: those
-- jobs, by SKIP LOCKED.
create function breakwater.return_stranded(p_limit integer, p_share double precision default 1) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_bitmapscan = off
as $$
declare
    v_lane  record;
    v_ids   bigint[];
    v_count integer := 0;
begin
    if pg_stat_get_dead_tuples('breakwater.job'::regclass) > 100000 then
        return 0;
    end if;
    for v_lane in
        select a.id, a.queue, a.kind, a.priority, breakwater.floor_of(a) as floor from breakwater.lane a
         where random() < p_share
           and (select j.position from breakwater.job j
                 where j.queue = a.queue and j.kind = a.kind and j.priority = a.priority and j.run_at is null
                 order by j.position limit 1) <= breakwater.floor_of(a)
    loop
        v_ids := breakwater.lock_waiting((breakwater.find_late(
            v_lane.id, v_lane.queue, v_lane.kind, v_lane.priority, -9223372036854775808, v_lane.floor,
            p_limit - v_count)).ids);
        continue when v_ids = '{}';
        update breakwater.job j set position = nextval('breakwater.job_position'), moved_from = null
         where j.id = any (v_ids);
        v_count := v_count + cardinality(v_ids);
        raise notice '% ready jobs of % in the queue % could be seen by no claim: they have new positions',
            cardinality(v_ids), v_lane.kind, v_lane.queue;
        perform breakwater.wake(array[v_lane.kind]);
        exit when v_count >= p_limit;
    end loop;
    return v_count;
end
$$;

-- The position at or below which no claim of a lane searches.
create function breakwater.floor_of(p_lane breakwater.lane) returns bigint
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select coalesce((select c.floor from breakwater.claim c where c.lane = p_lane.id
                      order by c.last desc, c.lease desc limit 1), p_lane.floor)
$$;

-- Why no claim can see a ready job, in words; null if one can.
create function breakwater.why_unseen(
    p_queue text, p_kind text, p_priority smallint, p_position bigint, p_lease bigint
) returns text
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select case
        when a.id is null
            then 'no claim can see it: its lane has no row in breakwater.lane; its workers put that back in a few seconds'
        when p_lease > coalesce(pg_sequence_last_value('breakwater.lease'::regclass), 0)
            then 'no claim can have it: the sequence breakwater.lease is behind its rows; run: worker migrate'
        when p_position <= breakwater.floor_of(a)
            then 'no claim can see it: its position is behind those that were claimed; the leader finds it in a minute or two'
        end
      from (select) one
      left join breakwater.lane a on a.queue = p_queue collate "C" and a.kind = p_kind collate "C"
                                 and a.priority = p_priority
$$;

-- Releases the jobs of claims whose worker does not exist: the worker was deregistered while one of its claims was in
-- progress, or a user deleted its row. This does not count against the jobs. Returns how many.
create function breakwater.release_orphans() returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_worker bigint;
    v_count  integer := 0;
begin
    for v_worker in
        select w from breakwater.workers_with_claims() w
         where not exists (select from breakwater.worker a where a.id = w)
           -- Worker 0 has the claims that only say where a lane's next claim begins.
           and (w <> 0 or exists (select from breakwater.claim c where c.worker = 0 and c.jobs <> '{}'))
    loop
        v_count := v_count + cardinality(breakwater.release_claims(v_worker, '{}', null));
        perform breakwater.deregister_worker(v_worker);
    end loop;
    return v_count;
end
$$;

-- Locks a job that a user wants to change by hand. Returns false if no such job waits. A job that is held by a worker
-- that does not exist is released first.
create function breakwater.lock_to_change(p_id bigint) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if breakwater.lock_waiting(array[p_id]) <> '{}' then
        return true;
    end if;
    if not exists (select from breakwater.held h
                    where h.job = p_id and not exists (select from breakwater.worker w where w.id = h.worker)) then
        return false;
    end if;
    perform breakwater.release_orphans();
    return breakwater.lock_waiting(array[p_id]) <> '{}';
end
$$;
