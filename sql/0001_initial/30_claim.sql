-- Claiming: the only way from waiting to running.

-- Takes ready jobs for a worker.
--
-- The lanes come as parallel arrays in the order of preference. `p_after` is each lane's cursor: the scan starts
-- behind it, so dead index entries in front cost nothing. `p_slots` names, for each lane, the element of `p_room` that
-- says how many jobs its kind may take; `p_total` bounds them all. Paused lanes and open circuits give nothing; a
-- half-open circuit gives at most as many jobs as it has free probe leases.
--
-- Locks: the claimed rows, by SKIP LOCKED, and the row of a circuit that is not closed, likewise. It never waits,
-- so it can close no cycle of waits, as long as it stays the last statement of its transaction.
--
-- The settings keep the plan on the lane index whatever the statistics say, even when none exist.
create function breakwater.claim(
    p_worker     bigint,
    p_queues     text[],
    p_kinds      text[],
    p_priorities smallint[],
    p_after      bigint[],
    p_slots      integer[],
    p_room       integer[],
    p_total      integer
) returns table (
    id bigint, queue text, kind text, priority smallint, "position" bigint, payload jsonb, attempt integer,
    max_attempts integer, enqueued_at timestamptz, traceparent text, lease bigint, generation bigint, is_probe boolean
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off
as $$
#variable_conflict use_column
declare
    v_lease bigint;
    v_left  integer := p_total;
    v_room  integer[] := p_room;
    v_lane  record;
    v_limit integer;
    v_ctids tid[];
    v_ids   bigint[];
    v_all   bigint[] := '{}';
    v_generation bigint;
begin
    -- A worker whose jobs were given to others claims nothing until it has registered anew.
    if not exists (select from breakwater.worker w where w.id = p_worker) then
        return;
    end if;

    for v_lane in
        select l.queue, l.kind, l.priority, l.after, l.slot,
               coalesce(c.state, 'closed') as state, coalesce(c.generation, 0) as generation
          from unnest(p_queues, p_kinds, p_priorities, p_after, p_slots) with ordinality
               as l(queue, kind, priority, after, slot, place)
          left join breakwater.circuit c on c.kind = l.kind collate "C" and c.key = ''
         where not exists (select from breakwater.pause p
                            where (p.scope = 'kind' and p.name = l.kind collate "C")
                               or (p.scope = 'queue' and p.name = l.queue collate "C"))
           and (c.state is distinct from 'open' or c.retry_at <= breakwater.clock())
           and exists (select from breakwater.job j
                        where j.queue = l.queue collate "C" and j.kind = l.kind collate "C"
                          and j.priority = l.priority and j.position > l.after
                          and j.run_at is null and j.worker is null)
         order by l.place
    loop
        exit when v_left <= 0;
        v_limit := least(v_left, v_room[v_lane.slot]);
        v_generation := v_lane.generation;
        if v_limit > 0 and v_lane.state <> 'closed' then
            select a.permits, a.generation into v_limit, v_generation
              from breakwater.admit_probes(v_lane.kind, '', v_limit) a;
        end if;
        continue when v_limit <= 0;

        select array_agg(t.ctid), array_agg(t.id) into v_ctids, v_ids
          from (select j.ctid, j.id
                  from breakwater.job j
                 where j.queue = v_lane.queue collate "C" and j.kind = v_lane.kind collate "C"
                   and j.priority = v_lane.priority and j.position > v_lane.after
                   and j.run_at is null and j.worker is null
                 order by j.position
                 limit v_limit
                   for update skip locked) t;
        continue when v_ids is null;

        if v_lease is null then
            v_lease := nextval('breakwater.lease');
        end if;
        if v_lane.state <> 'closed' then
            perform breakwater.lease_probes(v_lane.kind, '', v_ids, v_lease);
        end if;

        return query
            update breakwater.job j
               set worker = p_worker, lease = v_lease, attempt = j.attempt + 1
             where j.ctid = any (v_ctids)
            returning j.id, j.queue::text, j.kind::text, j.priority, j.position, j.payload, j.attempt,
                      j.max_attempts, j.enqueued_at, j.traceparent, v_lease, v_generation, v_lane.state <> 'closed';

        v_all := v_all || v_ids;
        v_left := v_left - cardinality(v_ids);
        v_room[v_lane.slot] := v_room[v_lane.slot] - cardinality(v_ids);
    end loop;

    if v_lease is not null then
        insert into breakwater.claim (lease, worker, jobs) values (v_lease, p_worker, v_all);
    end if;
end
$$;

-- Finds, for each lane, the first ready position above its floor. It locks nothing: a job that another worker is
-- claiming right now still counts as ready, so a claim that rolls back is not lost.
--
-- `place` is the lane's index in the arrays, from 1; lanes with nothing ready are left out.
create function breakwater.sweep(p_queues text[], p_kinds text[], p_priorities smallint[], p_floors bigint[])
returns table (place integer, first_ready bigint)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off
as $$
begin
    return query
        select l.place::integer, f.first_ready
          from unnest(p_queues, p_kinds, p_priorities, p_floors) with ordinality
               as l(queue, kind, priority, floor, place)
         cross join lateral (
               select j.position as first_ready
                 from breakwater.job j
                where j.queue = l.queue collate "C" and j.kind = l.kind collate "C"
                  and j.priority = l.priority and j.position > l.floor
                  and j.run_at is null and j.worker is null
                order by j.position
                limit 1) f;
end
$$;

-- Helps a worker to prove a floor: below which position can no job appear any more?
--
-- A transaction draws positions only while it holds a row-exclusive lock on `job`. So note the highest position drawn,
-- then who holds such a lock (in this order); once all of those have ended, nothing can appear at or below it.
--
-- Takes the holders noted last time; returns whether all of them have ended, and a new note.
create function breakwater.horizon(p_holders text[], out passed boolean, out highest bigint, out holders text[])
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    select p.last_value into highest from breakwater.job_position p;
    select coalesce(array_agg(distinct k.virtualtransaction), '{}') into holders
      from pg_locks k
     where k.locktype = 'relation' and k.relation = 'breakwater.job'::regclass
       and k.database = (select d.oid from pg_database d where d.datname = current_database())
       and k.mode not in ('AccessShareLock', 'RowShareLock')
       and k.pid is distinct from pg_backend_pid();
    passed := not (holders && p_holders);
end
$$;

-- Notes that a worker sleeps, so that inserts of these kinds wake it. It must claim once more before it sleeps.
create function breakwater.sleep(p_worker bigint, p_kinds text[]) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$
    insert into breakwater.sleeper (worker, kinds) values (p_worker, p_kinds)
    on conflict (worker) do update set kinds = excluded.kinds where sleeper.kinds <> excluded.kinds
$$;

-- Notes that a worker is too busy to need waking.
create function breakwater.awake(p_worker bigint) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$
    delete from breakwater.sleeper where worker = p_worker
$$;
