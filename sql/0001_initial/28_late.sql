-- Late jobs: a transaction draws the positions of its jobs when it adds them, and may commit after a claim has passed
-- those positions. Its jobs are then below the lane's cursor. Claims search for them between the lane's *floor* and its
-- cursor. The floor is the highest position at or below which no job waits and none can appear any more.

-- The result of a search between a lane's floor and its cursor.
create type breakwater.late_jobs as (
    -- Jobs that no claim holds, in their order.
    ids         bigint[],
    -- Whether these are all of them.
    is_complete boolean,
    -- Whether the lane has no ready jobs above its cursor either.
    is_last     boolean,
    -- No job can appear at or below this position any more, as was known before the search.
    proven      bigint,
    -- The cursor up to which the search went.
    cursor      bigint
);

-- Searches for late jobs of a lane. It locks nothing, because it may take long if many index entries are dead and
-- cannot be cleaned up. So once the caller has locked the lane, it must check again which of the jobs are still waiting
-- there.
create function breakwater.find_late(
    p_lane bigint, p_queue text, p_kind text, p_priority smallint, p_floor bigint, p_cursor bigint, p_limit integer
) returns breakwater.late_jobs
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_late breakwater.late_jobs;
    -- A claim that holds a job above the floor has its `last` above it too.
    v_held bigint[] := array(
        select c.id
          from (select k.lease, unnest(k.jobs) as id from breakwater.claim k
                 where k.lane = p_lane and k.last > p_floor offset 0) c
         where (select j.lease from breakwater.job j where j.id = c.id) < c.lease);
begin
    select h.proven into v_late.proven from breakwater.horizon h order by h.id desc limit 1;
    v_late.cursor := p_cursor;
    -- NOT IN uses a hash table and keeps the order of the index, so the limit ends the scan.
    v_late.ids := array(
        select j.id from breakwater.job j
         where j.queue = p_queue collate "C" and j.kind = p_kind collate "C" and j.priority = p_priority
           and j.position > p_floor and j.position <= p_cursor and j.run_at is null
           and j.id not in (select h from unnest(v_held) h)
         order by j.position
         limit p_limit + 1);
    v_late.is_complete := cardinality(v_late.ids) <= p_limit and v_late.proven is not null;
    v_late.is_last := not exists (
        select from breakwater.job j
         where j.queue = p_queue collate "C" and j.kind = p_kind collate "C" and j.priority = p_priority
           and j.position > p_cursor and j.run_at is null);
    return v_late;
end
$$;

-- Records the position at or below which no job can appear any more. The leader runs this as maintenance.
--
-- A transaction draws positions only while it holds a row-exclusive lock on `job`. So this records the highest position
-- drawn and then the transactions that hold such a lock, in this order. Once all of those have ended, no job can appear
-- at or below that position.
create function breakwater.record_horizon() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_old     breakwater.horizon;
    v_highest bigint;
    v_holders text[];
    v_proven  bigint;
begin
    select * into v_old from breakwater.horizon h order by h.id desc limit 1;
    v_highest := breakwater.last_number('job_position');
    select coalesce(array_agg(distinct k.virtualtransaction), '{}') into v_holders
      from pg_locks k
     where k.locktype = 'relation' and k.relation = 'breakwater.job'::regclass
       and k.database = (select d.oid from pg_database d where d.datname = current_database())
       -- Readers, and vacuums, which may take long.
       and k.mode not in ('AccessShareLock', 'RowShareLock', 'ShareUpdateExclusiveLock')
       and k.pid is distinct from pg_backend_pid();
    v_proven := case when v_holders = '{}' then v_highest
                     -- A transaction gets another name when it is prepared, so nothing is proven while there is a
                     -- prepared one.
                     when exists (select from unnest(v_holders) h where h like '-1/%') or v_holders && v_old.holders
                     then v_old.proven
                     else v_old.highest end;
    -- While a recorded transaction is still running, the row is kept, because a new row would have to wait for newer
    -- transactions as well.
    if v_proven > coalesce(v_old.proven, -1) or v_old.id is null or not v_holders && v_old.holders then
        if v_old.id is null or (v_highest, v_proven) is distinct from (v_old.highest, v_old.proven) then
            insert into breakwater.horizon (proven, highest, holders)
            values (coalesce(v_proven, 0), v_highest, v_holders);
            delete from breakwater.horizon h where h.id <= v_old.id;
        end if;
    end if;
end
$$;

-- Whether claim p_new may take a job that is not plainly free: another session is changing the row right now or once
-- locked it, an UPDATE by hand moved the job here from another lane where a claim may still hold it, or the job was put
-- back after the claim drew its number. If it may not, the setting breakwater.skipped records this, so that the lane's
-- floor stays below the job.
--
-- Locks: the job, if it is still where the claim found it; the other lane's row, so that no claim of that lane is in
-- progress. Both by SKIP LOCKED.
create function breakwater.may_claim(
    p_id bigint, p_position bigint, p_lease bigint, p_moved_from bigint, p_new bigint
) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_may boolean;
begin
    perform from breakwater.job j
      where j.id = p_id and j.position + 0 = p_position and j.lease = p_lease and num_nulls(j.run_at) = 1 and j.lease < p_new
        for no key update skip locked;
    v_may := found;
    if v_may and p_moved_from is not null then
        perform from breakwater.lane a where a.id = p_moved_from for update skip locked;
        v_may := (found or not exists (select from breakwater.lane a where a.id = p_moved_from))
                 and not exists (select from breakwater.claim c where p_id = any (c.jobs) and c.lease > p_lease);
    end if;
    if not v_may then
        perform set_config('breakwater.skipped', 'yes', true);
    end if;
    return v_may;
end
$$;

-- Users may change rows by hand. A job gets a new position if an UPDATE puts it into another lane, makes it ready or
-- not ready, or gives it a position that no claim might ever pass. The lane that it leaves is recorded, because a claim
-- there may hold it. A parked job that gets another kind or is made ready is not parked any more, because the circuits
-- of its new kind decide.
--
-- Locks: if the job is moved again before a claim took it, the lane that it left first, until the claims in progress
-- there have ended.
create function breakwater.record_move() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if old.moved_from is not null then
        perform breakwater.await_claims(old.moved_from);
    end if;
    if old.parked is not null and (new.kind, new.parked, new.run_at) is distinct from (old.kind, old.parked, old.run_at)
    then
        new.parked := null;
        new.run_at := nullif(new.run_at, old.run_at);
    end if;
    -- The same for a job that a rule held back. Its order counts for its old kind only.
    if old.rule is not null and (new.kind, new.run_at) is distinct from (old.kind, old.run_at) then
        new.run_at := nullif(new.run_at, old.run_at);
        new.rule := null;
        new.rule_key := null;
    end if;
    if new.kind <> old.kind then
        new.order_key := null;
    end if;
    if old.run_at is not null and new.run_at is null and new.ready_at = old.ready_at then
        new.ready_at := now();
    end if;
    new.position := nextval('breakwater.job_position');
    -- 0: its lane's row is gone. A claim may still hold the job.
    new.moved_from := coalesce((select a.id from breakwater.lane a
                                 where a.queue = old.queue and a.kind = old.kind and a.priority = old.priority),
                               old.moved_from, 0);
    return new;
end
$$;

-- Breakwater's own functions draw a new position, write `lease` to end a hold, park a job, or hold it back, so they do
-- not fire this trigger.
create trigger record_move before update of queue, kind, priority, position, run_at, parked on breakwater.job
    for each row when (new.lease = old.lease and not (old.parked is null and new.parked is not null)
                       and (new.rule, new.rule_key) is not distinct from (old.rule, old.rule_key)
                       and (new.position < old.position
                            or (new.position = old.position
                                and (new.queue, new.kind, new.priority, new.run_at, new.parked)
                                    is distinct from (old.queue, old.kind, old.priority, old.run_at, old.parked))
                            or (new.position > old.position
                                and new.position > pg_sequence_last_value('breakwater.job_position'::regclass))))
    execute function breakwater.record_move();

-- Waits until the claims of a lane that are in progress have ended. Locks: the lane's row, but only until this returns,
-- because rolling back the block frees what it locked.
create function breakwater.await_claims(p_lane bigint) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform from breakwater.lane a where a.id = p_lane for update;
    raise exception using errcode = 'BW003', message = 'no claim of the lane is under way';
exception when sqlstate 'BW003' then
    null;
end
$$;

-- Locks the given jobs that no other session has locked, or all of them with `p_patiently`, and returns those that
-- wait: no claim holds them, and none will before this transaction ends.
--
-- A claim locks no job. Every claim that begins after the jobs are locked sees their locks. So this function then waits
-- for the claims that are in progress in the jobs' lanes, which takes a moment each. It does not keep the lanes' locks.
create function breakwater.lock_waiting(p_ids bigint[], p_patiently boolean default false) returns bigint[]
language plpgsql set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
declare
    v_ids bigint[];
    v_lane bigint;
begin
    perform breakwater.require_read_committed();
    if p_patiently then
        v_ids := array(select j.id from breakwater.job j where j.id = any (p_ids) order by j.id for update);
    else
        v_ids := array(select j.id from breakwater.job j where j.id = any (p_ids) order by j.id for update skip locked);
    end if;
    for v_lane in
        select a.id
          from breakwater.job j
          join breakwater.lane a on a.queue = j.queue and a.kind = j.kind and a.priority = j.priority
         where j.id = any (v_ids) and num_nulls(j.run_at) = 1
         union
        select j.moved_from from breakwater.job j where j.id = any (v_ids) and j.moved_from is not null
         order by 1
    loop
        perform breakwater.await_claims(v_lane);
    end loop;
    return breakwater.without_held(v_ids);
end
$$;

-- Returns those of the given jobs that no claim holds.
create function breakwater.without_held(p_ids bigint[], p_lane bigint default null) returns bigint[]
language plpgsql stable set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off
as $$
declare
    v_held bigint[] := array(
        select c.id
          from (select k.lease, unnest(k.jobs) as id from breakwater.claim k
                 where p_lane is null or k.lane = p_lane offset 0) c
         -- The CASE keeps the planner from joining.
         where case when c.id in (select i from unnest(p_ids) i)
                    then (select j.lease from breakwater.job j where j.id = c.id) < c.lease end);
begin
    return array(
        select j.id from breakwater.job j
         where j.id = any (p_ids) and j.id not in (select h from unnest(v_held) h)
         order by j.position);
end
$$;
