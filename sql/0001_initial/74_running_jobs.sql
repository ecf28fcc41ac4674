-- Running jobs: requests to cancel them, and what they report about themselves.

-- Asks the worker that holds a job to cancel it, and returns that worker; null if no claim holds the job. Its caller
-- has locked the job. A second request for the same claim changes nothing.
create function breakwater.request_cancel(p_id bigint, p_reason text, p_actor text) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_held record;
begin
    select h.lease, h.worker into v_held from breakwater.held h where h.job = p_id;
    if not found then
        return null;
    end if;
    insert into breakwater.cancel_request as c (job, lease, worker, actor, reason)
    values (p_id, v_held.lease, v_held.worker, p_actor, p_reason)
    on conflict (job) do update
       set lease = excluded.lease, worker = excluded.worker, actor = excluded.actor, reason = excluded.reason,
           requested_at = excluded.requested_at
     where c.lease <> excluded.lease;
    -- A worker that does not listen asks for its requests twice a second.
    perform pg_notify('breakwater', 'cancel:' || v_held.worker);
    return v_held.worker;
end
$$;

-- The jobs that a worker is asked to cancel, with the claims that hold them.
create function breakwater.cancel_requests(p_worker bigint, out jobs bigint[], out leases bigint[])
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(c.job order by c.job), '{}'), coalesce(array_agg(c.lease order by c.job), '{}')
      from (select c.job, c.lease from breakwater.cancel_request c where c.worker = p_worker limit 10000) c
$$;

-- Ends a job whose claim has a request to cancel it: it becomes a dead letter, and no attempt is spent. Its caller has
-- locked the job, and has checked that there is a request.
create function breakwater.dead_letter_cancelled(
    p_id bigint, p_lease bigint, p_worker bigint, p_attempt integer, p_errors jsonb
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_request breakwater.cancel_request;
begin
    delete from breakwater.cancel_request c where c.job = p_id and c.lease = p_lease returning * into v_request;
    perform breakwater.dead_letter_job(
        p_id, 'cancelled',
        breakwater.add_error(p_errors, p_attempt, 'cancelled', 'cancelled',
                             v_request.actor || ' cancelled it' || coalesce(': ' || v_request.reason, ''), p_worker),
        p_worker);
end
$$;

-- Deals with requests whose claim does not hold their job any more, at most p_limit. Nearly always the job has
-- succeeded, and the request is deleted. A job that was given back in another way than by a worker or a rescue (a user
-- changed the tables) is cancelled now. Returns how many.
create function breakwater.follow_cancel_requests(p_limit integer) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_request breakwater.cancel_request;
    v_count   integer := 0;
begin
    if not exists (select from breakwater.cancel_request) then
        return 0;
    end if;
    for v_request in
        select * from breakwater.cancel_request c
         where not exists (select from breakwater.held h where h.job = c.job and h.lease = c.lease)
         order by c.job limit p_limit
    loop
        perform from breakwater.job j where j.id = v_request.job for update;
        if found and breakwater.lock_to_change(v_request.job) then
            perform breakwater.dead_letter_cancelled(
                j.id, v_request.lease, v_request.worker, j.attempt + 1, j.errors)
               from breakwater.job j where j.id = v_request.job;
        elsif breakwater.request_cancel(v_request.job, v_request.reason, v_request.actor) is null then
            delete from breakwater.cancel_request c where c.job = v_request.job and c.lease = v_request.lease;
        end if;
        v_count := v_count + 1;
    end loop;
    return v_count;
end
$$;

-- Stores what a worker's runs have reported. Reports of jobs that the worker does not hold change nothing. A checkpoint
-- that is null keeps the last one.
--
-- Locks: the rows of these jobs, in the order of the jobs.
create function breakwater.report_progress(
    p_worker bigint, p_jobs bigint[], p_leases bigint[], p_versions bigint[], p_fractions double precision[],
    p_notes text[], p_checkpoints text[]
) returns void
language sql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '2s'
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
    insert into breakwater.progress as p (job, kind, lease, version, fraction, note, checkpoint)
    -- The array of fractions cannot contain null, so a negative one stands for none.
    select g.job, j.kind, g.lease, g.version, nullif(g.fraction, -1), g.note, g.checkpoint::json
      from unnest(p_jobs, p_leases, p_versions, p_fractions, p_notes, p_checkpoints)
           as g(job, lease, version, fraction, note, checkpoint)
      join breakwater.claim c on c.lease = g.lease and c.worker = p_worker
      join breakwater.job j on j.id = g.job and j.lease < g.lease
     order by g.job
    on conflict (job) do update
       set kind = excluded.kind, lease = excluded.lease, version = excluded.version, fraction = excluded.fraction,
           note = excluded.note, checkpoint = coalesce(excluded.checkpoint, p.checkpoint),
           updated_at = excluded.updated_at
     where (p.lease, p.version) < (excluded.lease, excluded.version)
$$;

-- The checkpoints of claimed jobs of one kind, in their order; null if none of the kind's jobs has one.
--
-- It is volatile, so that it sees what had been committed when the claim took the jobs.
create function breakwater.checkpoints(p_kind text, p_ids bigint[]) returns text[]
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from breakwater.progress p
                    where p.kind = p_kind collate "C" and p.checkpoint is not null) then
        return null;
    end if;
    return array(
        select (select p.checkpoint::text from breakwater.progress p where p.job = g.id)
          from unnest(p_ids) with ordinality g(id, place)
         order by g.place);
end
$$;

-- Deletes the reports of jobs that have succeeded or were purged, among p_limit rows. If there are more, these begin at
-- a random one.
create function breakwater.prune_progress(p_limit integer) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_first bigint;
begin
    if exists (select from breakwater.progress offset p_limit) then
        v_first := (select min(p.job) + (random() * (max(p.job) - min(p.job)))::bigint from breakwater.progress p);
    end if;
    delete from breakwater.progress p
     where p.job = any (array(select o.job from breakwater.progress o where o.job >= v_first or v_first is null
                               order by o.job limit p_limit))
       and not exists (select from breakwater.job j where j.id = p.job)
       and not exists (select from breakwater.dead_letter d where d.id = p.job);
end
$$;

-- The jobs that run now, with what their runs have reported, and who has cancelled them.
create view breakwater.running_job as
select h.job as id, j.queue, j.kind, j.priority, j.attempt + 1 as attempt, h.worker, w.name as worker_name,
       h.claimed_at, p.fraction, p.note, p.updated_at as reported_at, c.requested_at as cancelled_at,
       c.actor as cancelled_by
  from breakwater.held h
  join breakwater.job j on j.id = h.job
  left join breakwater.worker w on w.id = h.worker
  left join breakwater.progress p on p.job = h.job and p.lease = h.lease
  left join breakwater.cancel_request c on c.job = h.job and c.lease = h.lease;
