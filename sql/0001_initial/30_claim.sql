-- Claiming: the only way from waiting to running. A claim adds rows to breakwater.claim and writes no job.

-- The jobs of one claim in the form in which they are sent to the worker: each array has an element for each job, in
-- the order of the lane. One such row costs the server and the worker half as much as a row for each job.
create type breakwater.claimed_jobs as (
    queue         text,
    kind          text,
    priority      smallint,
    lease         bigint,
    is_probe      boolean,
    ids           bigint[],
    positions     bigint[],
    payloads      text[],
    -- The number of the counted run that is about to start, from 1.
    attempts      integer[],
    -- How many earlier runs were handed back.
    handed_back   smallint[],
    -- null: the handler's limit applies.
    max_attempts  integer[],
    enqueued_at   timestamptz[],
    -- How many seconds each job was ready.
    waited        double precision[],
    -- Where the table stores each job.
    tuples        tid[],
    traceparents  text[],
    tracestates   text[],
    -- The circuit's key and generation: of each job, or one element for all of them.
    circuit_keys  text[],
    generations   bigint[],
    -- How many seconds each job must wait before it starts, so that a rate is kept evenly. null: none must.
    delays        double precision[],
    -- If not null, the row has no jobs: jobs of the kind are held back by a rule, and the worker should claim again
    -- after this many seconds, or when it has settled runs of the kind.
    retry_after   double precision
);

-- The jobs that are held, and the claims that hold them.
--
-- With offset 0, each listed job is looked up once. Otherwise the planner would search the claims for each job.
create view breakwater.held as
select c.id as job, c.lease, c.worker, c.lane, c.claimed_at
  from (select k.lease, k.worker, k.lane, k.claimed_at, unnest(k.jobs) as id from breakwater.claim k offset 0) c
  join breakwater.job j on j.id = c.id and j.lease < c.lease;

-- Whether a claim of a kind may find jobs that a rule held back.
create function breakwater.may_have_held_back(p_kind text, p_rules bigint[]) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (select from breakwater.freed_key f
                    where f.kind = p_kind collate "C" and f.due_at <= now() + interval '1 second')
        or exists (select from breakwater.share_turn t where t.rule = any (p_rules));
end
$$;

-- A worker's lanes that may have jobs for it, in its order of preference: those with jobs above their cursor or, if
-- `p_late`, with a gap between floor and cursor where late jobs may be. Paused lanes and open circuits are left out.
--
-- PostgreSQL inlines this into breakwater.claim's query, so it has no settings of its own.
create function breakwater.claimable_lanes(
    p_worker bigint, p_queues text[], p_kinds text[], p_priorities smallint[], p_slots integer[], p_late boolean
) returns table (
    id           bigint,
    queue        text,
    kind         text,
    priority     smallint,
    slot         integer,
    cursor       bigint,
    floor        bigint,
    has_gap      boolean,
    key_path     text[],
    -- The position up to which it is proven that no transaction can still add jobs.
    proven       bigint,
    circuit_kind text,
    circuit_key  text,
    generation   bigint,
    -- Whether breakwater.admit must say how many jobs may be taken.
    is_limited   boolean,
    -- Whether jobs of the lane may have to be parked or dead-lettered instead of taken.
    is_filtered  boolean,
    -- Since when the circuit is closed, while it ramps up; null: it does not.
    ramps_since  timestamptz,
    -- Whether the lane has jobs above its cursor.
    has_jobs     boolean,
    -- Whether the kind has rules (see 29_rules.sql).
    has_rules    boolean
)
language sql stable
as $$
    select a.id, l.queue, l.kind, l.priority, l.slot, n.last, n.floor, n.floor < n.last, h.key_path,
           (select z.proven from breakwater.horizon z order by z.id desc limit 1),
           coalesce(c.kind, l.kind), coalesce(c.key, ''),
           coalesce(c.generation, 0),
           -- Nearly always this is false, and nothing more has to be checked.
           coalesce(c.state <> 'closed' or c.ramp_until > breakwater.clock(), false) or exists (
               select from breakwater.suspension s
                where s.worker = p_worker
                  and (s.is_local and s.kind = a.kind or s.kind = c.kind and s.key = c.key)),
           h.max_age is not null or (h.key_path is not null and exists (
               select from breakwater.circuit k
                where k.kind = l.kind collate "C" and k.key <> '' and k.state <> 'closed')),
           case when c.ramp_until > breakwater.clock() then c.since end,
           f.position is not null, h.rules is not null
      from unnest(p_queues, p_kinds, p_priorities, p_slots) with ordinality
           as l(queue, kind, priority, slot, place)
      join breakwater.lane a on a.queue = l.queue collate "C" and a.kind = l.kind collate "C"
                            and a.priority = l.priority
      left join lateral (
           select c.last, c.floor from breakwater.claim c where c.lane = a.id
            order by c.last desc, c.lease desc limit 1) m on true
     cross join lateral (select coalesce(m.last, a.floor) as last, coalesce(m.floor, a.floor) as floor) n
     -- This is not EXISTS, because the planner may turn that into a join with all ready jobs.
      left join lateral (
           select j.position from breakwater.job j
            where j.queue = a.queue and j.kind = a.kind and j.priority = a.priority and j.position > n.last
              and j.run_at is null
            order by j.position
            limit 1) f on true
      left join breakwater.handler h on h.kind = l.kind collate "C"
      left join breakwater.circuit c on breakwater.is_circuit_of(c.kind, c.key, l.kind, h.shared_key, '')
     where (f.position is not null or (p_late and n.floor < n.last)
            or (h.rules is not null and breakwater.may_have_held_back(h.kind, h.rules)))
       and not exists (select from breakwater.pause p where breakwater.is_pause_of(p.scope, p.name, l.queue, l.kind))
       -- If a user deleted the handler's row, its rules are unknown until a worker puts it back.
       and (h.kind is not null or not exists (select from breakwater.flow_rule))
       and (c.state is distinct from 'open' or c.retry_at <= breakwater.clock())
     order by l.place
$$;

-- Claims ready jobs for a worker.
--
-- The lanes are parallel arrays in the order of preference. For each lane, `p_slots` is an index into `p_room`, which
-- has the most jobs to take of the kind, and into `p_concurrency`, which has the kind's concurrency. `p_total` limits
-- all of them together. With `p_late`, it also takes late jobs, which appeared below the lanes' cursors (see
-- 28_late.sql). With `p_is_backlog`, it searches for them only where more has been proven since the last search,
-- because a search is expensive where many jobs have just ended. Paused lanes and open circuits give nothing; a
-- half-open circuit gives at most as many jobs as it has free probe leases; a circuit that has just closed gives fewer,
-- and a suspended worker gets fewer (see breakwater.admit). Meanwhile, jobs of a key whose circuit is open are parked,
-- and jobs beyond their handler's max_age are dead-lettered. Once the payloads reach `p_bytes`, no more jobs are taken.
--
-- It commits without waiting for the disk. So none of its jobs may start before a later commit on the same connection
-- has waited for the disk and has been answered: that of breakwater.settle, or of breakwater.flush.
--
-- Locks: the lane's row and the row of a circuit that is not closed, by SKIP LOCKED; it never waits.
--
-- The settings make the plan use the lane index for any statistics, even when none exist, and whatever the tables
-- contained when the plan was made: a session keeps its plans, and its first claims may see a table with one row. The
-- planner adds such a high cost to a disabled type of scan that a statement that needs it, even in a function called
-- from here, would first be compiled by JIT for half a second. So jit is off here, and wherever else a type of scan is
-- off.
create function breakwater.claim(
    p_worker      bigint,
    p_queues      text[],
    p_kinds       text[],
    p_priorities  smallint[],
    p_slots       integer[],
    p_room        integer[],
    p_concurrency integer[],
    p_total       integer,
    p_late        boolean,
    p_is_backlog  boolean default false,
    p_bytes       integer default 8388608
) returns setof breakwater.claimed_jobs
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set jit = off set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_indexscan = on
as $$
declare
    v_left  integer := p_total;
    v_bytes integer := p_bytes;
    v_room  integer[] := p_room;
    v_lane  record;
    v_newest record;
    v_jobs  breakwater.claimed_jobs;
    -- Plain copies of the lane's fields. They are read once for each job, and a field of a record costs more to read.
    v_queue text collate "C";
    v_kind  text collate "C";
    v_priority smallint;
    v_permits integer;
    v_generation bigint;
    v_is_probe boolean;
    v_has_lane boolean := false;
    v_late  breakwater.late_jobs;
    v_cursor bigint;
    v_floor bigint;
    v_lease bigint;
    v_taken integer;
    v_slot integer;
    v_states breakwater.rule_state[];
    v_wait  double precision;
    v_has_keys boolean := false;
    v_shared text[] collate "C" := '{}';
    v_is_shared boolean := false;
begin
    perform breakwater.require_read_committed();
    -- A worker whose jobs were released to others claims nothing until it has registered again. A worker that an
    -- operator drained claims nothing at all.
    if not exists (select from breakwater.worker w where w.id = p_worker and w.drain_reason is null) then
        return;
    end if;
    perform set_config('synchronous_commit', 'off', true);

    for v_lane in
        select l.* from breakwater.claimable_lanes(p_worker, p_queues, p_kinds, p_priorities, p_slots, p_late) l
    loop
        exit when v_bytes <= 0 or (v_left <= 0 and not v_lane.has_rules);
        v_permits := least(v_left, v_room[v_lane.slot]);
        v_generation := v_lane.generation;
        v_is_probe := false;
        if v_lane.is_limited then
            select a.permits, a.generation, a.is_probe into v_permits, v_generation, v_is_probe
              from breakwater.admit(v_lane.circuit_kind, v_lane.circuit_key, p_worker,
                                    least(v_permits, breakwater.admit_self(v_lane.kind, p_worker)),
                                    v_room[v_lane.slot], p_concurrency[v_lane.slot]) a;
        end if;
        continue when v_permits <= 0 and not v_lane.has_rules;

        if v_is_probe then
            v_taken := 0;
            for v_jobs in
                select s.* from breakwater.claim_sample(
                    p_worker, v_lane.kind,
                    array(select l.queue from unnest(p_queues, p_kinds) with ordinality l(queue, kind, place)
                           where l.kind = v_lane.kind order by l.place),
                    array(select l.priority from unnest(p_priorities, p_kinds) with ordinality l(priority, kind, place)
                           where l.kind = v_lane.kind order by l.place),
                    v_lane.circuit_kind, v_lane.circuit_key, v_generation, v_permits, v_lane.is_filtered) s
            loop
                return next v_jobs;
                v_taken := v_taken + cardinality(v_jobs.ids);
            end loop;
            v_left := v_left - v_taken;
            v_room[v_lane.slot] := v_room[v_lane.slot] - v_taken;
            -- If there are only late jobs, the oldest of them are claimed below.
            continue when v_taken > 0;
        end if;

        v_queue := v_lane.queue;
        v_kind := v_lane.kind;
        v_priority := v_lane.priority;
        v_late := null;
        if v_lane.has_gap and p_late and (not p_is_backlog or v_lane.floor < v_lane.proven) then
            v_late := breakwater.find_late(v_lane.id, v_queue, v_kind, v_priority, v_lane.floor, v_lane.cursor, v_permits);
        end if;

        -- A claim of another worker takes about a millisecond. This one waits for it only while it holds no lane
        -- itself.
        for attempt in 1..5 loop
            select a.floor into v_floor from breakwater.lane a where a.id = v_lane.id for update skip locked;
            exit when v_floor is not null or v_has_lane;
            perform pg_sleep(0.001);
        end loop;
        if v_floor is null then
            if v_lane.has_rules then
                return next breakwater.held_back(v_kind, 0.01);
            end if;
            continue;
        end if;
        v_has_lane := true;
        -- This is read only now, because another claim may have committed before the lock was free.
        select c.lease, c.last, c.floor, c.jobs = '{}' as has_ended, h.kind as handler, h.rules into v_newest
          from (select v_kind as kind) k
          left join breakwater.handler h on h.kind = k.kind
          left join lateral (
               select * from breakwater.claim c where c.lane = v_lane.id
                order by c.last desc, c.lease desc limit 1) c on true;
        -- A user may have deleted the handler's row, and with it the rules, a moment ago.
        continue when v_newest.handler is null and exists (select from breakwater.flow_rule);
        v_cursor := coalesce(v_newest.last, v_floor);
        v_floor := coalesce(v_newest.floor, v_floor);

        v_states := null;
        v_wait := null;
        if v_newest.rules is not null then
            -- A kind with rules: they decide how many jobs may start, and jobs that they held back come first.
            v_states := breakwater.lock_rules(v_newest.rules);
            v_wait := 0.005;
            v_taken := 0;
            if v_states is not null then
                select s.permits, s.wait into v_permits, v_wait
                  from breakwater.free_starts(v_states, p_worker, v_permits, p_concurrency[v_lane.slot], v_kind) s;
                select bool_or((s.rule).type = 'share'),
                       bool_or(num_nonnulls((s.rule).key_path, (s.rule).weight_path) > 0)
                  into v_is_shared, v_has_keys
                  from unnest(v_states) s;
                continue when v_kind = any (v_shared);
                -- If nobody waits for a share and a whole portion may start, nothing needs to be held back.
                if v_is_shared and v_permits >= breakwater.share_portion()
                   and not exists (select from breakwater.share_turn t where t.rule = any (v_newest.rules))
                then
                    v_is_shared := false;
                end if;
                if v_is_shared then
                    -- All lanes of a shared kind are one.
                    v_shared := v_shared || v_kind;
                    perform breakwater.hold_back_lanes(
                        p_worker, v_states, v_kind, p_queues, p_kinds, p_priorities, p_slots, p_late, v_bytes);
                end if;
                if v_permits > 0 and v_has_keys and not v_is_probe then
                    for v_jobs in
                        select b.* from breakwater.claim_held_back(
                            p_worker, v_kind, v_states, breakwater.queues_to_claim(p_queues, p_kinds, v_kind), v_permits,
                            v_bytes, v_lane.key_path, v_lane.is_filtered, v_lane.circuit_key, v_generation) b
                    loop
                        return next v_jobs;
                        v_taken := v_taken + cardinality(v_jobs.ids);
                        v_bytes := v_bytes - pg_column_size(v_jobs.payloads);
                    end loop;
                    if v_taken > 0 then
                        -- The logs have new rows now.
                        v_states := breakwater.lock_rules(v_newest.rules);
                    end if;
                end if;
                if v_has_keys then
                    v_wait := coalesce(v_wait, breakwater.next_held_back(v_kind, v_newest.rules));
                end if;
                v_permits := v_permits - v_taken;
                v_left := v_left - v_taken;
                v_room[v_lane.slot] := v_room[v_lane.slot] - v_taken;
            end if;
            if v_wait is not null then
                return next breakwater.held_back(v_kind, v_wait);
            end if;
            continue when v_states is null or v_permits <= 0 or v_bytes <= 0 or v_is_shared;
        end if;

        if v_lane.ramps_since is not null and v_permits > 1 and not v_is_probe and v_lane.key_path is null
           and v_states is null and not v_lane.is_filtered
        then
            -- After an outage, new jobs do not wait for the whole backlog.
            v_jobs := breakwater.claim_newest(
                p_worker, v_lane.id, v_queue, v_kind, v_priority, v_cursor, v_floor, least(v_permits / 2, 100), v_lane.ramps_since,
                v_lane.circuit_key, v_generation);
            if v_jobs.ids is not null then
                return next v_jobs;
                v_permits := v_permits - cardinality(v_jobs.ids);
                v_bytes := v_bytes - pg_column_size(v_jobs.payloads);
                v_left := v_left - cardinality(v_jobs.ids);
                v_room[v_lane.slot] := v_room[v_lane.slot] - cardinality(v_jobs.ids);
            end if;
        end if;

        v_lease := nextval('breakwater.lease');
        if coalesce(v_late.ids, '{}') = '{}' and (v_states is null or not v_has_keys) and not v_lane.is_filtered
           and not v_is_probe and v_lane.key_path is null
        then
            v_jobs := breakwater.claim_in_order(
                p_worker, v_lane.id, v_queue, v_kind, v_priority, v_lease, v_cursor, v_floor, v_lane.proven, v_late,
                v_permits, v_bytes, v_lane.circuit_key, v_generation);
            if v_states is not null and v_jobs.ids is not null then
                v_jobs.delays := (breakwater.record_starts(v_states, v_kind, v_lease, v_jobs.ids)).delays;
            end if;
        else
            v_jobs := breakwater.claim_with_care(
                p_worker, v_lane.id, v_queue, v_kind, v_priority, v_lease, v_cursor, v_floor, v_late, v_permits, v_bytes,
                v_lane.key_path, v_lane.is_filtered, v_lane.circuit_kind, v_lane.circuit_key, v_generation, v_is_probe,
                v_states, false);
        end if;
        if v_newest.has_ended then
            perform breakwater.delete_ended_claim(v_newest.lease, v_lane.id);
        end if;
        if v_jobs.ids is null and v_states is not null and v_lane.has_jobs and v_wait is null then
            -- A weight may not fit yet.
            return next breakwater.held_back(v_kind, 0.25);
        end if;
        continue when v_jobs.ids is null;
        return next v_jobs;
        v_bytes := v_bytes - pg_column_size(v_jobs.payloads);
        v_left := v_left - cardinality(v_jobs.ids);
        v_room[v_lane.slot] := v_room[v_lane.slot] - cardinality(v_jobs.ids);
    end loop;
    if v_bytes <= 0 then
        return;
    end if;

    if v_left > 0 and exists (select from breakwater.test_shot) then
        for v_jobs in
            select s.* from breakwater.claim_test_shots(p_worker, p_queues, p_kinds, p_slots, v_room, v_left) s
        loop
            return next v_jobs;
            v_left := v_left - 1;
            v_slot := (select l.slot from unnest(p_kinds, p_slots) l(kind, slot) where l.kind = v_jobs.kind limit 1);
            v_room[v_slot] := v_room[v_slot] - 1;
        end loop;
    end if;
    if v_left > 0 then
        return query select k.* from breakwater.claim_parked_probes(
            p_worker, p_queues, p_kinds, p_slots, v_room, p_concurrency, v_left) k;
    end if;
end
$$;

-- Deletes the claim that was a lane's newest until now and whose jobs have all ended, if there is a newer one.
create function breakwater.delete_ended_claim(p_lease bigint, p_lane bigint) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    delete from breakwater.claim c
     where c.lease = p_lease
       and exists (select from breakwater.claim n where n.lane = p_lane and (n.last, n.lease) > (c.last, c.lease));
end
$$;

-- The row that tells a worker to claim a kind again after some seconds, because a rule holds back jobs.
create function breakwater.held_back(p_kind text, p_seconds double precision) returns breakwater.claimed_jobs
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    v_row breakwater.claimed_jobs;
begin
    v_row.kind := p_kind;
    v_row.retry_after := p_seconds;
    return v_row;
end
$$;

-- After how many seconds a claim of a kind may find more jobs that a rule held back; null: none is held back.
create function breakwater.next_held_back(p_kind text, p_rules bigint[]) returns double precision
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return (select case when n.due_at is not null or exists (
                            select from breakwater.job j where j.kind = p_kind collate "C" and j.rule = any (p_rules))
                        then case when n.due_at is null then 0.25
                                  else least(0.25, greatest(extract(epoch from n.due_at - clock_timestamp()), 0.01)) end end
              from (select min(f.due_at) as due_at from breakwater.freed_key f
                     where f.kind = p_kind collate "C" and f.due_at > '-infinity') n);
end
$$;

-- The queues from which a worker claims a kind, without the paused ones.
create function breakwater.queues_to_claim(p_queues text[], p_kinds text[], p_kind text) returns text[]
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select distinct l.queue from unnest(p_queues, p_kinds) l(queue, kind)
         where l.kind = p_kind
           and not exists (select from breakwater.pause p where breakwater.is_pause_of(p.scope, p.name, l.queue, null)));
end
$$;

-- Takes the next jobs of one lane, above its cursor, and writes the claim. Its caller holds the lane, and has checked
-- that no job of the lane must be parked, dead-lettered or chosen as a probe, and that none is late.
--
-- It runs with the settings of breakwater.claim.
create function breakwater.claim_in_order(
    p_worker bigint, p_lane bigint, p_queue text, p_kind text, p_priority smallint, p_lease bigint, p_cursor bigint,
    p_floor bigint, p_proven bigint, p_late breakwater.late_jobs, p_permits integer, p_bytes integer, p_circuit_key text,
    p_generation bigint
) returns breakwater.claimed_jobs
language plpgsql
as $$
declare
    v_jobs    breakwater.claimed_jobs;
    -- Plain copies, with the collation of the index.
    v_queue   text collate "C" := p_queue;
    v_kind    text collate "C" := p_kind;
    v_cursor  bigint := p_cursor;
    v_floor   bigint := p_floor;
    v_last    bigint;
    v_permits integer := p_permits;
    v_taken   integer;
begin
    if p_late.is_complete then
        -- The floor does not rise to the lane's present cursor, which another claim may have moved since the search for
        -- late jobs.
        v_floor := greatest(v_floor, least(p_late.proven, p_late.cursor));
        if p_late.is_last then
            v_cursor := greatest(v_cursor, p_late.proven);
            v_floor := greatest(v_floor, p_late.proven);
        end if;
    end if;
    v_last := v_cursor;
    perform set_config('breakwater.skipped', '', true);
    loop
        select v_queue, v_kind, p_priority, p_lease, false, array_agg(j.id), array_agg(j.position),
               array_agg(j.payload::text), array_agg(j.attempt + 1), array_agg(j.handed_back),
               array_agg(j.max_attempts), array_agg(j.enqueued_at),
               array_agg(date_part('epoch', now() - j.ready_at)), array_agg(j.ctid),
               array_agg(j.traceparent), array_agg(j.tracestate), array[p_circuit_key], array[p_generation]
          into v_jobs
          from (select j.*, j.ctid
                  from breakwater.job j
                 where j.queue = v_queue and j.kind = v_kind and j.priority = p_priority
                   and j.position > v_cursor and j.run_at is null
                   and ((j.xmax = '0' and j.moved_from is null and j.lease < p_lease)
                        or breakwater.may_claim(j.id, j.position, j.lease, j.moved_from, p_lease))
                 order by j.position
                 limit v_permits) j;
        exit when pg_column_size(v_jobs.payloads) <= p_bytes or v_jobs.ids is null;
        -- Usually the loop has ended here.
        v_taken := breakwater.count_within(v_jobs.payloads, p_bytes);
        exit when v_taken = cardinality(v_jobs.ids);
        v_permits := v_taken;
    end loop;
    if v_jobs.ids is not null then
        v_last := v_jobs.positions[cardinality(v_jobs.positions)];
        -- If no job below the cursor can ever have to be searched for, the floor rises with the cursor.
        if v_floor = v_cursor and current_setting('breakwater.skipped') = '' then
            v_floor := greatest(v_floor, least(v_last, coalesce(p_proven, v_floor)));
        end if;
    end if;
    -- A claim without jobs records how far the lane has been searched.
    if v_jobs.ids is not null or v_last > p_cursor
       or (v_floor > p_floor and v_floor >= least(v_last, p_floor + 1000))
    then
        insert into breakwater.claim (lease, worker, lane, last, floor, jobs)
        values (p_lease, p_worker, p_lane, v_last, v_floor, coalesce(v_jobs.ids, '{}'));
    end if;
    return v_jobs;
end
$$;

-- Makes the commit wait for the disk if the worker has just claimed something, so that the claim cannot be lost any
-- more. A worker calls this when it has nothing to settle, because settling does the same. A commit waits only if it
-- has something to write, so this writes a message that nothing reads.
create function breakwater.flush(p_worker bigint) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform breakwater.commit_durably();
    -- It checks more than the newest row, because a claim of several lanes adds several rows, some without jobs. The
    -- claim was made a moment ago, so few numbers have been drawn since.
    perform from breakwater.claim c
      where c.worker = p_worker and c.lease > (select l.last_value - 10000 from breakwater.lease l)
        and c.jobs <> '{}' and c.claimed_at > now() - interval '1 minute'
      limit 1;
    if found then
        perform pg_logical_emit_message(true, 'breakwater.flush', '');
    end if;
end
$$;

-- Makes this transaction's commit wait for the disk, if the role or the database has turned that off.
create function breakwater.commit_durably() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('synchronous_commit') = 'off' then
        perform set_config('synchronous_commit', 'local', true);
    end if;
end
$$;

-- Refuses any isolation level but READ COMMITTED, because a stricter one hides what other sessions have just committed.
create function breakwater.require_read_committed() returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'breakwater needs the isolation level READ COMMITTED, and this transaction is %',
            upper(current_setting('transaction_isolation'))
            using errcode = '25000',
                  hint = 'ALTER ROLE … SET default_transaction_isolation = ''read committed'', also for the database; '
                         || 'or begin with BEGIN ISOLATION LEVEL READ COMMITTED.';
    end if;
end
$$;
