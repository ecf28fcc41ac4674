-- What operators do by hand: redrive and purge dead letters, cancel and hurry jobs, pause and resume, drain workers.
-- Each action leaves a line in `breakwater.audit`, for every caller.

-- Writes down who did what. The actor is the session's user unless the caller names one. Returns the line's id.
create function breakwater.record_action(
    p_actor text, p_action text, p_target text, p_reason text, p_details jsonb default '{}'
) returns bigint
language sql set search_path = pg_catalog, pg_temp
as $$
    insert into breakwater.audit (actor, action, target, reason, details)
    values (left(coalesce(nullif(p_actor, ''), session_user), 200), p_action, left(p_target, 500),
            left(nullif(p_reason, ''), 2000), p_details)
    returning id
$$;

-- Puts one dead letter back as a job, with all its settings and its counters reset. Returns false if it is not there.
-- If a newer live job has its unique key, this is refused, and the dead letter stays. It waits up to five seconds for
-- an open transaction that has the key. If a job has its number, it gets a new one.
create function breakwater.redrive(id bigint, why text default null, actor text default session_user) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '5s'
as $$
#variable_conflict use_column
declare
    v_dead breakwater.dead_letter;
    v_number bigint := redrive.id;
begin
    select * into v_dead from breakwater.dead_letter d where d.id = redrive.id for update;
    if not found then
        return false;
    end if;
    if v_dead.reason = 'unreadable' then
        raise exception 'dead letter % cannot be redriven: its payload could not be read, and is lost', v_dead.id
            using errcode = '22023', hint = 'Enqueue the job anew, and purge this dead letter.';
    end if;
    if exists (select from breakwater.job j where j.id = v_dead.id) then
        v_number := breakwater.new_job_number();
    end if;
    insert into breakwater.job (
        id, lease, queue, kind, priority, payload, max_attempts, unique_key, traceparent, tracestate, errors, enqueued_at)
    overriding system value
    -- It keeps its id, but its lease is a new number, so that no earlier claim holds it again.
    values (v_number, nextval('breakwater.lease'), v_dead.queue, v_dead.kind, v_dead.priority, v_dead.payload,
            v_dead.max_attempts, v_dead.unique_key, v_dead.traceparent, v_dead.tracestate, nullif(v_dead.errors, '[]'),
            v_dead.enqueued_at)
    on conflict (kind, unique_key) where unique_key is not null do nothing;
    if not found then
        raise exception 'dead letter % has the unique key ''%'', which a newer job of the kind ''%'' has now',
            v_dead.id, v_dead.unique_key, v_dead.kind
            using errcode = '23505', hint = 'Redrive it when that job has ended, or purge it.';
    end if;
    delete from breakwater.dead_letter d where d.id = v_dead.id;
    perform breakwater.record_action(actor, 'dead_letter.redrive', 'job ' || id, why,
                                     jsonb_strip_nulls(jsonb_build_object(
                                         'id', id, 'kind', v_dead.kind, 'new_id', nullif(v_number, v_dead.id))));
    return true;
end
$$;

-- Picks the dead letters that meet all conditions that are not null, oldest first. With `p_to_be_jobs`, it leaves out
-- those whose payload could not be read and those whose unique key a job has; otherwise a portion of these would be
-- picked again and again. Locks them, and skips those that another session has locked.
create function breakwater.pick_dead_letters(
    p_ids bigint[], p_kind text, p_reason text, p_failure text, p_died_until timestamptz, p_limit integer,
    p_to_be_jobs boolean, p_incident bigint default null
) returns bigint[]
language plpgsql set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan
as $$
declare
    v_incident breakwater.circuit_incident;
    v_kinds    text[];
begin
    if p_incident is not null then
        select * into v_incident from breakwater.circuit_incident i where i.id = p_incident;
        v_kinds := breakwater.kinds_of(v_incident.kind, v_incident.key);
    end if;
    return array(
        select d.id from breakwater.dead_letter d
         where (p_ids is null or d.id = any (p_ids))
           and (p_kind is null or d.kind = p_kind collate "C")
           and (p_reason is null or d.reason = p_reason)
           and (p_failure is null or d.failure = p_failure collate "C")
           and (p_died_until is null or d.died_at <= p_died_until)
           and (p_incident is null
                or (d.kind = any (v_kinds) and d.died_at >= v_incident.began_at and d.died_at <= v_incident.ended_at
                    and breakwater.is_behind(d, v_incident.kind, v_incident.key)))
           and not (p_to_be_jobs and d.reason = 'unreadable')
           and not (p_to_be_jobs and d.unique_key is not null and exists (
                   select from breakwater.job j where j.kind = d.kind and j.unique_key = d.unique_key))
         order by d.died_at, d.id
         limit p_limit
           for update skip locked);
end
$$;

-- Writes the audit log's line for an action on many dead letters, which all portions of a run share. p_audit is what
-- the previous portion returned, null for the first.
create function breakwater.record_portion(
    p_audit bigint, p_actor text, p_action text, p_why text, p_count integer, p_ids bigint[], p_kind text,
    p_reason text, p_failure text, p_died_until timestamptz, p_incident bigint default null
) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    update breakwater.audit a
       set details = a.details || jsonb_build_object('count', (a.details ->> 'count')::bigint + p_count)
     where a.id = p_audit;
    if found then
        return p_audit;
    end if;
    return breakwater.record_action(
        p_actor, p_action,
        case when p_ids is not null then format('%s chosen jobs', cardinality(p_ids))
             else coalesce(concat_ws(', ', 'incident ' || p_incident, p_kind, p_reason, nullif(p_failure, '')), '') end,
        p_why,
        jsonb_strip_nulls(jsonb_build_object(
            'count', p_count, 'ids', p_ids, 'kind', p_kind, 'reason', p_reason, 'failure', p_failure,
            'died_until', p_died_until, 'incident', p_incident)));
end
$$;

-- Puts back a portion of the dead letters that pick_dead_letters picks, the oldest, at most p_limit. Those whose unique
-- key a newer job has are left. When `picked` is 0, nothing is left to do. Pass `audit` on to the next portion. It
-- waits up to five seconds for an open transaction that has one of the keys.
create function breakwater.redrive_some(
    p_ids bigint[], p_kind text, p_reason text, p_failure text, p_died_until timestamptz, p_limit integer, p_why text,
    p_actor text, p_audit bigint default null, p_incident bigint default null,
    out picked integer, out done integer, out audit bigint
)
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '5s'
as $$
declare
    v_ids bigint[] := breakwater.pick_dead_letters(
        p_ids, p_kind, p_reason, p_failure, p_died_until, p_limit, true, p_incident);
begin
    picked := cardinality(v_ids);
    with chosen as materialized (
        select d.*, case when exists (select from breakwater.job j where j.id = d.id)
                         then breakwater.new_job_number() else d.id end as number
          from breakwater.dead_letter d where d.id = any (v_ids)
    ), back as (
        insert into breakwater.job (
            id, lease, queue, kind, priority, payload, max_attempts, unique_key, traceparent, tracestate, errors,
            enqueued_at)
        overriding system value
        -- As in redrive(id).
        select d.number, nextval('breakwater.lease'), d.queue, d.kind, d.priority, d.payload, d.max_attempts, d.unique_key,
               d.traceparent, d.tracestate, nullif(d.errors, '[]'), d.enqueued_at
          from chosen d order by d.died_at, d.id
        on conflict (kind, unique_key) where unique_key is not null do nothing
        returning job.id
    )
    delete from breakwater.dead_letter d using back b join chosen c on c.number = b.id where d.id = c.id;
    get diagnostics done = row_count;
    audit := breakwater.record_portion(p_audit, p_actor, 'dead_letter.redrive', p_why, done, p_ids, p_kind, p_reason,
                                       p_failure, p_died_until, p_incident);
end
$$;

-- Deletes a portion of the dead letters that pick_dead_letters picks, for good. Its results are those of redrive_some.
create function breakwater.purge_some(
    p_ids bigint[], p_kind text, p_reason text, p_failure text, p_died_until timestamptz, p_limit integer, p_why text,
    p_actor text, p_audit bigint default null, p_incident bigint default null,
    out picked integer, out done integer, out audit bigint
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_ids bigint[] := breakwater.pick_dead_letters(
        p_ids, p_kind, p_reason, p_failure, p_died_until, p_limit, false, p_incident);
begin
    picked := cardinality(v_ids);
    delete from breakwater.dead_letter d where d.id = any (v_ids);
    get diagnostics done = row_count;
    audit := breakwater.record_portion(p_audit, p_actor, 'dead_letter.purge', p_why, done, p_ids, p_kind, p_reason,
                                       p_failure, p_died_until, p_incident);
end
$$;

-- Puts back the oldest dead letters of a kind (or of all, when null) and of a reason (or any), at most limit_to. Those
-- whose unique key a newer job has are left. Returns how many were put back.
create function breakwater.redrive(
    kind text, reason text default null, limit_to integer default 1000, why text default null,
    actor text default session_user
) returns integer
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select r.done from breakwater.redrive_some(null, kind, reason, null, null, limit_to, why, actor) r $$;

-- Deletes dead letters for good: of a kind (null: of all) and a reason (null: any), older than an interval. Returns how
-- many.
create function breakwater.purge(
    kind text, reason text default null, older_than interval default '0', limit_to integer default 10000,
    why text default null, actor text default session_user
) returns integer
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select r.done from breakwater.purge_some(null, kind, reason, null, now() - older_than, limit_to, why, actor) r $$;

-- Deletes one dead letter for good. False if it is not there.
create function breakwater.purge(id bigint, why text default null, actor text default session_user) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_kind text;
begin
    delete from breakwater.dead_letter d where d.id = purge.id returning d.kind into v_kind;
    if not found then
        return false;
    end if;
    perform breakwater.record_action(actor, 'dead_letter.purge', 'job ' || id, why,
                                     jsonb_build_object('id', id, 'kind', v_kind));
    return true;
end
$$;

-- Moves a waiting job to the dead letters. False if it is not there or runs right now.
create function breakwater.cancel(id bigint, why text default null, actor text default session_user) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_kind text;
begin
    if not breakwater.lock_to_change(cancel.id) then
        return false;
    end if;
    select j.kind into v_kind from breakwater.job j where j.id = cancel.id;
    perform breakwater.dead_letter_job(cancel.id, 'cancelled', null);
    perform breakwater.record_action(actor, 'job.cancel', 'job ' || id, why,
                                     jsonb_build_object('id', id, 'kind', v_kind));
    return true;
end
$$;

-- Makes a scheduled or retrying job ready now. Returns false if no such job waits for its time. A suspect is refused:
-- next to other jobs it might bring down the next worker as well.
create function breakwater.run_now(id bigint, why text default null, actor text default session_user) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_kind    text;
    v_crashes integer;
begin
    if not breakwater.lock_to_change(run_now.id) then
        return false;
    end if;
    select j.crashes into v_crashes from breakwater.job j where j.id = run_now.id and j.run_at is not null;
    if v_crashes >= 2 then
        raise exception 'job % cannot be hurried: % of its workers in a row were lost while they held it', run_now.id, v_crashes
            using errcode = '22023', hint = 'It runs apart from others, as soon as a worker holds no other job. Or cancel it.';
    end if;
    update breakwater.job j
       set run_at = null, parked = null, ready_at = now(), position = nextval('breakwater.job_position')
     where j.id = run_now.id and j.run_at is not null
    returning j.kind into v_kind;
    if v_kind is null then
        return false;
    end if;
    perform breakwater.wake(array[v_kind]);
    perform breakwater.record_action(actor, 'job.run_now', 'job ' || id, why,
                                     jsonb_build_object('id', id, 'kind', v_kind));
    return true;
end
$$;

-- Gives a waiting job another priority, 0 to 9; it goes to the end of that lane. False if it is not there or runs right
-- now.
create function breakwater.set_priority(
    id bigint, priority integer, why text default null, actor text default session_user
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_old breakwater.job;
begin
    if set_priority.priority is null or set_priority.priority not between 0 and 9 then
        raise exception 'priority % is not 0 to 9', coalesce(set_priority.priority::text, 'NULL')
            using errcode = '22023', hint = '0 runs first, 9 last.';
    end if;
    if not breakwater.lock_to_change(set_priority.id) then
        return false;
    end if;
    select * into v_old from breakwater.job j where j.id = set_priority.id;
    if v_old.priority <> set_priority.priority then
        update breakwater.job j
           set priority = set_priority.priority, position = nextval('breakwater.job_position')
         where j.id = v_old.id;
        if v_old.run_at is null then
            perform breakwater.wake(array[v_old.kind]);
        end if;
    end if;
    perform breakwater.record_action(
        actor, 'job.priority', 'job ' || id, why,
        jsonb_build_object('id', id, 'kind', v_old.kind, 'from', v_old.priority, 'to', set_priority.priority));
    return true;
end
$$;

-- The common part of resuming a queue and a kind. That of pausing them follows.
create function breakwater.resume_scope(p_scope text, p_name text, p_why text, p_actor text) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_found boolean;
begin
    delete from breakwater.pause p where p.scope = p_scope and p.name = p_name collate "C";
    v_found := found;
    if v_found then
        perform pg_notify('breakwater', 'resume:' || p_scope || ':' || left(p_name, 200));
        perform breakwater.record_action(p_actor, p_scope || '.resume', p_name, p_why);
    end if;
    return v_found;
end
$$;

create function breakwater.pause_scope(p_scope text, p_name text, p_reason text, p_actor text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if p_name is null or p_name = '' or p_reason is null or p_reason = '' then
        raise exception 'pausing needs a name and a reason' using errcode = '22023';
    end if;
    insert into breakwater.pause (scope, name, reason, actor) values (p_scope, p_name, p_reason, p_actor)
    on conflict (scope, name) do update set reason = excluded.reason, actor = excluded.actor;
    perform pg_notify('breakwater', 'pause:' || p_scope || ':' || left(p_name, 200));
    perform breakwater.record_action(p_actor, p_scope || '.pause', p_name, p_reason);
end
$$;

-- Stops the claiming of a queue or a kind, in the whole fleet, until it is resumed. What runs goes on.
create function breakwater.pause_queue(queue text, reason text, actor text default session_user) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select breakwater.pause_scope('queue', queue, reason, actor) $$;

create function breakwater.pause_kind(kind text, reason text, actor text default session_user) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select breakwater.pause_scope('kind', kind, reason, actor) $$;

-- Lets a paused queue or kind go on. False if it was not paused.
create function breakwater.resume_queue(queue text, why text default null, actor text default session_user)
returns boolean
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select breakwater.resume_scope('queue', queue, why, actor) $$;

create function breakwater.resume_kind(kind text, why text default null, actor text default session_user)
returns boolean
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select breakwater.resume_scope('kind', kind, why, actor) $$;

-- Stops a worker from claiming: it finishes what it runs, gives back what it has not begun, and keeps its heartbeat
-- until an operator ends or undrains it. Returns false if it is not there.
create function breakwater.drain_worker(worker bigint, reason text, actor text default session_user) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_name text;
begin
    if drain_worker.reason is null or drain_worker.reason = '' then
        raise exception 'draining needs a reason' using errcode = '22023';
    end if;
    update breakwater.worker w set drain_reason = left(drain_worker.reason, 2000), state = 'draining'
     where w.id = drain_worker.worker
    returning w.name into v_name;
    if not found then
        return false;
    end if;
    perform breakwater.record_action(actor, 'worker.drain', v_name, drain_worker.reason,
                                     jsonb_build_object('worker', drain_worker.worker));
    return true;
end
$$;

-- Lets a drained worker claim again. Returns false if it is not there, or was not drained.
create function breakwater.undrain_worker(worker bigint, why text default null, actor text default session_user)
returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_name text;
begin
    update breakwater.worker w set drain_reason = null, state = 'running'
     where w.id = undrain_worker.worker and w.drain_reason is not null
    returning w.name into v_name;
    if not found then
        return false;
    end if;
    perform breakwater.record_action(actor, 'worker.undrain', v_name, why,
                                     jsonb_build_object('worker', undrain_worker.worker));
    return true;
end
$$;
