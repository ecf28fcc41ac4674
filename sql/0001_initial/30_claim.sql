-- Claiming: the only way from waiting to running.

-- Takes ready jobs for a worker.
--
-- The lanes come as parallel arrays in the order of preference. `p_after` is each lane's cursor: the scan starts
-- behind it, so dead index entries in front cost nothing. `p_slots` names, for each lane, the element of `p_room` and
-- `p_concurrency` that holds how many jobs its kind may take, and how many it may have at once; `p_total` bounds them
-- all. Paused lanes and open circuits give nothing; a half-open circuit gives at most as many jobs as it has free probe
-- leases; a circuit that has just closed, and a suspended worker, are given fewer (see breakwater.admit).
--
-- What a lane's jobs have in common is said once: a row without an id goes before them, and where a job's column is null,
-- that row's holds (max_attempts, traceparent and tracestate aside, which may be null themselves). `waited` is how long a
-- job was ready, in seconds.
--
-- Jobs of an open key are put aside, and jobs beyond their handler's max_age are dead-lettered, on the way.
--
-- Locks: the claimed rows, by SKIP LOCKED, and the row of a circuit that is not closed, likewise. It never waits,
-- so it can close no cycle of waits, as long as it stays the last statement of its transaction.
--
-- The settings keep the plan on the lane index whatever the statistics say, even when none exist, and whatever the tables
-- held when the plan was made: a session keeps its plans, and its first claims may see a table with a row. What is off
-- counts as so dear that any statement that cannot do without it, even in a function called from here, would be compiled
-- first, for half a second: hence jit, here and wherever else a way of scanning is off.
create function breakwater.claim(
    p_worker      bigint,
    p_queues      text[],
    p_kinds       text[],
    p_priorities  smallint[],
    p_after       bigint[],
    p_slots       integer[],
    p_room        integer[],
    p_concurrency integer[],
    p_total       integer
) returns table (
    id bigint, queue text, kind text, priority smallint, "position" bigint, payload jsonb, attempt integer,
    max_attempts integer, enqueued_at timestamptz, traceparent text, lease bigint, generation bigint, is_probe boolean,
    circuit_key text, tuple tid, tracestate text, waited double precision
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set jit = off set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_indexscan = on
as $$
#variable_conflict use_column
declare
    v_lease bigint;
    v_left  integer := p_total;
    v_room  integer[] := p_room;
    v_lane  record;
    -- Of the lane, as plain values: a field of a record costs more to read, once for each job.
    v_queue text collate "C";
    v_kind  text collate "C";
    v_priority smallint;
    v_key   text;
    v_is_keyed boolean;
    v_limit integer;
    v_permits integer;
    v_generation bigint;
    v_is_probe boolean;
    v_ctids tid[];
    v_ids   bigint[];
    v_keys  text[];
    v_sifted bigint[];
    v_all   bigint[] := '{}';
    v_after bigint;
begin
    -- A worker whose jobs were given to others claims nothing until it has registered anew, and one that somebody drained
    -- nothing at all.
    if not exists (select from breakwater.worker w where w.id = p_worker and w.drain_reason is null) then
        return;
    end if;

    for v_lane in
        select l.queue, l.kind, l.priority, l.after, l.slot, h.key_path,
               coalesce(c.kind, l.kind) as circuit_kind, coalesce(c.key, '') as circuit_key,
               coalesce(c.state, 'closed') as state, coalesce(c.generation, 0) as generation,
               -- Nearly always, there is nothing more to ask.
               coalesce(c.state <> 'closed' or c.ramp_until > breakwater.clock(), false) or exists (
                   select from breakwater.suspension s
                    where s.kind = c.kind and s.key = c.key and s.worker = p_worker) as is_limited,
               h.max_age is not null or (h.key_path is not null and exists (
                   select from breakwater.circuit k
                    where k.kind = l.kind collate "C" and k.key <> '' and k.state <> 'closed')) as is_sifted
          from unnest(p_queues, p_kinds, p_priorities, p_after, p_slots) with ordinality
               as l(queue, kind, priority, after, slot, place)
         -- Not EXISTS, which may be turned into a join with all that is ready.
         cross join lateral (
               select j.position from breakwater.job j
                where j.queue = l.queue collate "C" and j.kind = l.kind collate "C"
                  and j.priority = l.priority and j.position > l.after
                  and j.run_at is null and j.worker is null
                order by j.position
                limit 1) f
          left join breakwater.handler h on h.kind = l.kind collate "C"
          left join breakwater.circuit c on c.kind = case when h.shared_key is null then l.kind else '*' end collate "C"
                                        and c.key = coalesce(h.shared_key, '')
         where not exists (select from breakwater.pause p
                            where (p.scope = 'kind' and p.name = l.kind collate "C")
                               or (p.scope = 'queue' and p.name = l.queue collate "C"))
           and (c.state is distinct from 'open' or c.retry_at <= breakwater.clock())
         order by l.place
    loop
        exit when v_left <= 0;
        v_permits := least(v_left, v_room[v_lane.slot]);
        v_generation := v_lane.generation;
        v_is_probe := false;
        if v_lane.is_limited then
            select a.permits, a.generation, a.is_probe into v_permits, v_generation, v_is_probe
              from breakwater.admit(v_lane.circuit_kind, v_lane.circuit_key, p_worker,
                                    least(v_left, v_room[v_lane.slot]), v_room[v_lane.slot],
                                    p_concurrency[v_lane.slot]) a;
        end if;
        continue when v_permits <= 0;

        v_queue := v_lane.queue;
        v_kind := v_lane.kind;
        v_priority := v_lane.priority;
        v_key := v_lane.circuit_key;
        -- A probe belongs to the circuit that let it through, or that would never hear of it.
        v_is_keyed := v_lane.key_path is not null and not v_is_probe;
        v_after := v_lane.after;
        if not v_lane.is_sifted then
            select array_agg(t.ctid), array_agg(t.id) into v_ctids, v_ids
              from (select j.ctid, j.id
                      from breakwater.job j
                     where j.queue = v_queue and j.kind = v_kind and j.priority = v_priority and j.position > v_after
                       and j.run_at is null and j.worker is null
                     order by j.position
                     limit v_permits
                       for update skip locked) t;
        else
            v_limit := greatest(v_permits, 500);
            for round in 1..5 loop
                select array_agg(t.id), max(t.position), array_agg(t.key) into v_ids, v_after, v_keys
                  from (select j.id, j.position,
                               case when v_lane.key_path is not null
                                    then breakwater.key_of(j.payload, v_lane.key_path) end as key
                          from breakwater.job j
                         where j.queue = v_queue and j.kind = v_kind and j.priority = v_priority
                           and j.position > v_after and j.run_at is null and j.worker is null
                         order by j.position
                         limit v_limit
                           for update skip locked) t;
                exit when v_ids is null;
                v_ids := breakwater.sift(v_kind, v_ids, v_keys, v_permits);
                exit when cardinality(v_ids) > 0;
            end loop;
            v_is_keyed := v_is_keyed or v_ids is not null;
        end if;
        continue when v_ids is null or v_ids = '{}';

        if v_lease is null then
            v_lease := nextval('breakwater.lease');
        end if;
        if v_is_probe then
            perform breakwater.lease_probes(v_lane.circuit_kind, v_key, v_kind, v_ids, v_lease);
        end if;

        id := null;
        queue := v_queue;
        kind := v_kind;
        priority := v_priority;
        lease := v_lease;
        generation := v_generation;
        is_probe := v_is_probe;
        circuit_key := v_key;
        return next;
        if v_is_keyed then
            return query
                update breakwater.job j
                   set worker = p_worker, lease = v_lease, attempt = j.attempt + 1
                 where j.id = any (v_ids)
                returning j.id, null::text, null::text, null::smallint, j.position, j.payload, j.attempt,
                          j.max_attempts, j.enqueued_at, j.traceparent, null::bigint,
                          case when v_lane.key_path is not null and not v_is_probe
                               then breakwater.generation_of(j.kind, breakwater.key_of(j.payload, v_lane.key_path)) end,
                          null::boolean,
                          case when v_lane.key_path is not null and not v_is_probe
                               then breakwater.key_of(j.payload, v_lane.key_path) end,
                          j.ctid, j.tracestate, date_part('epoch', now() - j.ready_at);
        else
            -- By their places in the table, and in no other way: a plan made while the table was small might read all
            -- of an index.
            perform set_config('enable_indexscan', 'off', true);
            return query
                update breakwater.job j
                   set worker = p_worker, lease = v_lease, attempt = j.attempt + 1
                 where j.ctid = any (v_ctids)
                returning j.id, null::text, null::text, null::smallint, j.position, j.payload, j.attempt,
                          j.max_attempts, j.enqueued_at, j.traceparent, null::bigint, null::bigint, null::boolean,
                          null::text, j.ctid, j.tracestate, date_part('epoch', now() - j.ready_at);
            perform set_config('enable_indexscan', 'on', true);
        end if;

        v_all := v_all || v_ids;
        v_left := v_left - cardinality(v_ids);
        v_room[v_lane.slot] := v_room[v_lane.slot] - cardinality(v_ids);
    end loop;

    -- Probes of keys, from among the jobs put aside.
    for v_lane in
        select c.kind, c.key, k.slot
          from (select distinct l.kind collate "C" as kind, l.slot
                  from unnest(p_kinds, p_slots) l(kind, slot)) k
          join breakwater.circuit c on c.kind = k.kind and c.key <> ''
         where (c.state = 'half_open' or (c.state = 'open' and c.retry_at <= breakwater.clock()))
           and not exists (select from breakwater.pause p where p.scope = 'kind' and p.name = k.kind)
         limit 20
    loop
        exit when v_left <= 0;
        select a.permits, a.generation into v_permits, v_generation
          from breakwater.admit(v_lane.kind, v_lane.key, p_worker, least(v_left, v_room[v_lane.slot]),
                                v_room[v_lane.slot], p_concurrency[v_lane.slot]) a;
        continue when v_permits <= 0;
        v_ids := array(
            select j.id from breakwater.job j
             where j.kind = v_lane.kind and j.parked = v_lane.key and j.queue = any (p_queues)
               and not exists (select from breakwater.pause p where p.scope = 'queue' and p.name = j.queue)
             order by j.priority, j.position
             limit v_permits
               for update skip locked);
        continue when v_ids = '{}';
        if v_lease is null then
            v_lease := nextval('breakwater.lease');
        end if;
        perform breakwater.lease_probes(v_lane.kind, v_lane.key, v_lane.kind, v_ids, v_lease);
        return query
            update breakwater.job j
               set worker = p_worker, lease = v_lease, attempt = j.attempt + 1,
                   run_at = null, parked = null, position = nextval('breakwater.job_position')
             where j.id = any (v_ids)
            returning j.id, j.queue::text, j.kind::text, j.priority, 0::bigint, j.payload, j.attempt,
                      j.max_attempts, j.enqueued_at, j.traceparent, v_lease, v_generation, true,
                      v_lane.key::text, j.ctid, j.tracestate, date_part('epoch', now() - j.ready_at);
        v_all := v_all || v_ids;
        v_left := v_left - cardinality(v_ids);
        v_room[v_lane.slot] := v_room[v_lane.slot] - cardinality(v_ids);
    end loop;

    if v_lease is not null then
        insert into breakwater.claim (lease, worker, jobs) values (v_lease, p_worker, v_all);
    end if;
end
$$;

-- Of jobs that a claim has locked, given with their keys, keeps those that may run, at most p_limit, in their order. Jobs
-- of a key whose circuit is not closed are put aside, out of the lane; jobs beyond their handler's max_age become dead
-- letters.
--
-- Locks: FOR SHARE, the rows of the circuits behind which it puts jobs aside, so that none of them closes before the jobs
-- can be seen there. Where one is just changing, its jobs are left for the next claim.
create function breakwater.sift(p_kind text, p_ids bigint[], p_keys text[], p_limit integer) returns bigint[]
language plpgsql set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
declare
    v_max_age interval := (select h.max_age from breakwater.handler h where h.kind = p_kind collate "C");
    v_expired bigint[] := '{}';
    v_stopped text[];
    v_locked  text[];
begin
    if v_max_age is not null then
        v_expired := array(select j.id from breakwater.job j
                            where j.id = any (p_ids) and j.enqueued_at < breakwater.clock() - v_max_age);
        perform breakwater.bury(i, 'expired', null) from unnest(v_expired) i;
    end if;

    v_stopped := array(select c.key from breakwater.circuit c
                        where c.kind = p_kind collate "C" and c.key <> '' and c.state <> 'closed'
                          and c.key = any (p_keys));
    if v_stopped <> '{}' then
        v_locked := array(select c.key from breakwater.circuit c
                           where c.kind = p_kind collate "C" and c.key = any (v_stopped) and c.state <> 'closed'
                             for share skip locked);
        -- By ids alone, so that there is nothing to join.
        update breakwater.job j
           set run_at = 'infinity', parked = p_keys[array_position(p_ids, j.id)]
         where j.id = any (array(select a.id from unnest(p_ids, p_keys) a(id, key)
                                  where a.key = any (v_locked) and a.id <> all (v_expired)));
    end if;

    return array(
        select i.id from unnest(p_ids, p_keys) with ordinality i(id, key, place)
         where i.id <> all (v_expired) and (i.key is null or i.key <> all (v_stopped))
         order by i.place
         limit p_limit);
end
$$;
