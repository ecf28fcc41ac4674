-- Enqueueing of jobs that wait for others, and batches. How they are released is in 43_dependants.sql.

-- Enqueues the callback of a batch, a job that waits until all jobs of the batch have ended, and returns its id, which
-- is the batch's id too. Add jobs to it by `batch => id` of enqueue and enqueue_many, or by add_to_batch, in the same
-- transaction or, as long as the callback waits, later: a job of the batch that runs can safely add others.
--
-- When all have ended, the callback runs once. Its payload, an object, gets the key `batch` with the batch's `id` and
-- how many `jobs` it had, how many of them `succeeded` and how many are `dead`. With `with_results`, it gets `results`,
-- an array of objects with the `job` and its `result`, of those that have one (see keep_results). A batch without jobs
-- has ended as soon as it is committed, unless it is `open`: then it ends only after close_batch.
--
-- If a job of the batch dies, `on_dead` decides: `run` counts it as dead; `hold` lets the callback wait until it is
-- redriven and succeeds; `cancel` makes the callback a dead letter. A batch can be part of another `batch`.
create function breakwater.batch(
    kind         text,
    payload      jsonb default '{}',
    queue        text default 'default',
    priority     integer default 5,
    max_attempts integer default null,
    traceparent  text default null,
    tracestate   text default null,
    on_dead      text default 'run',
    with_results boolean default false,
    open         boolean default false,
    batch        bigint default null
) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_id bigint;
begin
    if jsonb_typeof(batch.payload) is distinct from 'object' then
        raise exception 'the payload of a batch''s callback is %, not an object',
            coalesce('a JSON ' || jsonb_typeof(batch.payload), 'NULL')
            using errcode = '22023', hint = 'It gets the key "batch" when the batch has ended.';
    end if;
    v_id := breakwater.enqueue(
        batch.kind, batch.payload, batch.queue, batch.priority, 'infinity', batch.max_attempts, null,
        batch.traceparent, batch.tracestate, '{}', batch.on_dead, batch.batch);
    insert into breakwater.dependant (job, on_dead, is_batch, is_open, with_results)
    values (v_id, batch.on_dead, true, coalesce(batch.open, false), coalesce(batch.with_results, false));
    insert into breakwater.dependant_to_check (dependant) values (v_id);
    return v_id;
end
$$;

-- Adds existing jobs to a batch whose callback waits. Returns how many were added. Jobs that have succeeded or died
-- already count as such; jobs that are part of it already are left.
create function breakwater.add_to_batch(batch bigint, jobs bigint[]) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_count integer;
begin
    perform breakwater.check_dependencies(jobs, 'run', add_to_batch.batch);
    insert into breakwater.dependency (dependant, job, state, is_new)
    select add_to_batch.batch, s.job, s.state, s.state = 'waiting' from breakwater.dependency_states(jobs) s
    on conflict do nothing;
    get diagnostics v_count = row_count;
    insert into breakwater.dependant_to_check (dependant) values (add_to_batch.batch);
    return v_count;
end
$$;

-- Lets an open batch end when its jobs have ended. Returns false if there is no open batch of this id.
create function breakwater.close_batch(batch bigint) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update breakwater.dependant d set is_open = false
     where d.job = close_batch.batch and d.is_open and d.released_at is null;
    if not found then
        return false;
    end if;
    insert into breakwater.dependant_to_check (dependant) values (close_batch.batch);
    return true;
end
$$;

-- Refuses dependencies that cannot be, with messages that say what to do.
--
-- Locks: the row of the batch's callback among those that wait. If a cycle might be written, also
-- breakwater.dependency_lock, because two transactions might each write half of it.
create function breakwater.check_dependencies(p_after bigint[], p_on_dead text, p_batch bigint) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_unknown bigint;
begin
    if p_on_dead is null or p_on_dead not in ('hold', 'cancel', 'run') then
        raise exception 'on_dead is %, not hold, cancel or run', coalesce(quote_literal(p_on_dead), 'NULL')
            using errcode = '22023', hint = 'It says what becomes of the job when one that it waits for dies.';
    elsif array_position(p_after, null) is not null then
        raise exception 'an id of the jobs to wait for is NULL' using errcode = '22004';
    end if;
    select a into v_unknown from unnest(p_after) a
     where a < 1
        or a > breakwater.last_number('job_id_seq')
           and not exists (select from breakwater.job j where j.id = a)
           and not exists (select from breakwater.dead_letter d where d.id = a)
     limit 1;
    if found then
        raise exception 'there was never a job %', v_unknown
            using errcode = '22023', hint = 'Enqueue a job before those that wait for it.';
    end if;
    if p_batch is not null then
        perform from breakwater.dependant d
          where d.job = p_batch and d.is_batch and d.released_at is null for key share;
        if not found then
            if exists (select from breakwater.dependant d where d.job = p_batch and d.is_batch) then
                raise exception 'the batch % has ended', p_batch
                    using errcode = '55000',
                          hint = 'Add jobs while one of its jobs runs, or keep it open with open => true.';
            end if;
            raise exception 'there is no batch %', p_batch
                using errcode = '22023', hint = 'breakwater.batch returns the id of a new one.';
        end if;
        if cardinality(p_after) > 0 then
            lock table breakwater.dependency_lock in share row exclusive mode;
            if breakwater.would_wait_for_itself(p_batch, p_after) then
                raise exception 'the batch % would wait for itself', p_batch
                    using errcode = '22023', hint = 'A job of a batch cannot wait for the batch''s callback.';
            end if;
        end if;
    end if;
end
$$;

-- Whether one of these jobs is the callback of a batch, or waits for it, by way of others too.
create function breakwater.would_wait_for_itself(p_batch bigint, p_jobs bigint[]) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
    with recursive waiting as (
        select p_batch as job
        union
        select d.dependant
          from waiting w join breakwater.dependency d on d.job = w.job and d.state in ('waiting', 'dead')
    )
    select exists (select from waiting w where w.job = any (p_jobs))
$$;

-- The state of each of these jobs as a dependency. One that is neither live nor a dead letter has succeeded.
create function breakwater.dependency_states(p_jobs bigint[]) returns table (job bigint, state text)
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select a.job,
           case when exists (select from breakwater.job j where j.id = a.job) then 'waiting'
                when exists (select from breakwater.dead_letter d where d.id = a.job) then 'dead'
                else 'succeeded' end
      from (select distinct unnest(p_jobs) as job) a
     order by a.job
$$;

-- Makes new jobs part of a batch, and lets them wait for others if there are any. Their run_at is infinity then.
create function breakwater.add_dependencies(
    p_jobs bigint[], p_after bigint[], p_on_dead text, p_batch bigint, p_run_at timestamptz
) returns void
language plpgsql set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
begin
    if p_batch is not null then
        insert into breakwater.dependency (dependant, job, state)
        select p_batch, j, 'waiting' from unnest(p_jobs) j;
    end if;
    if cardinality(p_after) > 0 then
        insert into breakwater.dependant (job, on_dead, run_at)
        select j, p_on_dead, p_run_at from unnest(p_jobs) j;
        insert into breakwater.dependency (dependant, job, state, is_new)
        select j, s.job, s.state, s.state = 'waiting'
          from breakwater.dependency_states(p_after) s cross join unnest(p_jobs) j;
        -- All of them may have ended already.
        insert into breakwater.dependant_to_check (dependant) select j from unnest(p_jobs) j;
    end if;
end
$$;
