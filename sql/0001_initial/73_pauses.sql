-- Pausing and resuming of queues and kinds.

-- The common parts of pausing and of resuming a queue or a kind.
create function breakwater.resume_scope(p_scope text, p_name text, p_reason text, p_actor text) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_found boolean;
begin
    delete from breakwater.pause p where p.scope = p_scope and p.name = p_name collate "C";
    v_found := found;
    if v_found then
        perform pg_notify('breakwater', 'resume:' || p_scope || ':' || left(p_name, 200));
        perform breakwater.record_action(p_actor, p_scope || '.resume', p_name, p_reason);
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

-- Stops the claiming of a queue or a kind, in the whole fleet, until it is resumed. Running jobs continue.
create function breakwater.pause_queue(queue text, reason text, actor text default session_user) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select breakwater.pause_scope('queue', queue, reason, actor) $$;

create function breakwater.pause_kind(kind text, reason text, actor text default session_user) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select breakwater.pause_scope('kind', kind, reason, actor) $$;

-- Resumes a paused queue or kind. Returns false if it was not paused.
create function breakwater.resume_queue(queue text, reason text default null, actor text default session_user)
returns boolean
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select breakwater.resume_scope('queue', queue, reason, actor) $$;

create function breakwater.resume_kind(kind text, reason text default null, actor text default session_user)
returns boolean
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select breakwater.resume_scope('kind', kind, reason, actor) $$;
