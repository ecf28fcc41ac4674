-- What people do by hand: redrive and purge dead letters, cancel and hurry jobs, pause and resume.

-- Puts one dead letter back as a job, with all its settings and its counters reset. False if it is not there.
-- A newer live job with its unique key refuses it, and the dead letter stays.
create function breakwater.redrive(id bigint) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_dead breakwater.dead_letter;
begin
    select * into v_dead from breakwater.dead_letter d where d.id = redrive.id for update;
    if not found then
        return false;
    end if;
    insert into breakwater.job (
        id, queue, kind, priority, payload, max_attempts, unique_key, traceparent, tracestate, errors, enqueued_at)
    overriding system value
    values (v_dead.id, v_dead.queue, v_dead.kind, v_dead.priority, v_dead.payload, v_dead.max_attempts,
            v_dead.unique_key, v_dead.traceparent, v_dead.tracestate, nullif(v_dead.errors, '[]'), v_dead.enqueued_at)
    on conflict (kind, unique_key) where unique_key is not null do nothing;
    if not found then
        raise exception 'dead letter % has the unique key ''%'', which a newer job of the kind ''%'' has now',
            v_dead.id, v_dead.unique_key, v_dead.kind
            using errcode = '23505', hint = 'Redrive it when that job has ended, or purge it.';
    end if;
    delete from breakwater.dead_letter d where d.id = v_dead.id;
    return true;
end
$$;

-- Puts back the oldest dead letters of a kind (or of all, when null) and of a reason (or any), at most so many. Those
-- whose unique key is taken by a newer job are left. Returns how many were put back.
create function breakwater.redrive(kind text, reason text default null, limit_to integer default 1000)
returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_count integer;
begin
    with picked as (
        select d.* from breakwater.dead_letter d
         where (redrive.kind is null or d.kind = redrive.kind collate "C")
           and (redrive.reason is null or d.reason = redrive.reason)
         order by d.died_at, d.id
         limit limit_to
           for update skip locked
    ), back as (
        insert into breakwater.job (
            id, queue, kind, priority, payload, max_attempts, unique_key, traceparent, tracestate, errors, enqueued_at)
        overriding system value
        select p.id, p.queue, p.kind, p.priority, p.payload, p.max_attempts, p.unique_key, p.traceparent,
               p.tracestate, nullif(p.errors, '[]'), p.enqueued_at
          from picked p order by p.died_at, p.id
        on conflict (kind, unique_key) where unique_key is not null do nothing
        returning job.id
    )
    delete from breakwater.dead_letter d using back b where d.id = b.id;
    get diagnostics v_count = row_count;
    return v_count;
end
$$;

-- Deletes dead letters for good: of a kind (null: of all) and a reason (null: any), older than an interval. Returns how
-- many.
create function breakwater.purge(
    kind text, reason text default null, older_than interval default '0', limit_to integer default 10000
) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_count integer;
begin
    delete from breakwater.dead_letter d
     where d.id = any (array(
           select o.id from breakwater.dead_letter o
            where (purge.kind is null or o.kind = purge.kind collate "C")
              and (purge.reason is null or o.reason = purge.reason)
              and o.died_at <= now() - older_than
            order by o.died_at
            limit limit_to
              for update skip locked));
    get diagnostics v_count = row_count;
    return v_count;
end
$$;

-- Deletes one dead letter for good. False if it is not there.
create function breakwater.purge(id bigint) returns boolean
language sql security definer set search_path = pg_catalog, pg_temp
as $$
    with gone as (delete from breakwater.dead_letter d where d.id = purge.id returning 1)
    select exists (select from gone)
$$;

-- Moves a waiting job to the dead letters. False if it is not there or runs right now.
create function breakwater.cancel(id bigint) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    perform from breakwater.job j where j.id = cancel.id and j.worker is null for update;
    if not found then
        return false;
    end if;
    perform breakwater.bury(cancel.id, 'cancelled', null);
    return true;
end
$$;

-- Makes a scheduled or retrying job ready now. False if there is no such job waiting for its time.
create function breakwater.run_now(id bigint) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_kind text;
begin
    update breakwater.job j
       set run_at = null, parked = null, ready_at = now(), position = nextval('breakwater.job_position')
     where j.id = run_now.id and j.run_at is not null
    returning j.kind into v_kind;
    if v_kind is null then
        return false;
    end if;
    perform breakwater.wake(array[v_kind]);
    return true;
end
$$;

-- What resuming a queue and a kind have in common, and pausing them.
create function breakwater.resume_scope(p_scope text, p_name text) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_found boolean;
begin
    delete from breakwater.pause p where p.scope = p_scope and p.name = p_name collate "C";
    v_found := found;
    if v_found then
        perform pg_notify('breakwater', 'resume:' || p_scope || ':' || left(p_name, 200));
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
create function breakwater.resume_queue(queue text) returns boolean
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select breakwater.resume_scope('queue', queue) $$;

create function breakwater.resume_kind(kind text) returns boolean
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select breakwater.resume_scope('kind', kind) $$;
