-- Draining of workers.

-- Stops a worker from claiming: it finishes the running jobs, releases those that it has not started, and keeps its
-- heartbeat until an operator ends or undrains it. Returns false if it does not exist.
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

-- Lets a drained worker claim again. Returns false if it does not exist, or was not drained.
create function breakwater.undrain_worker(worker bigint, reason text default null, actor text default session_user)
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
    perform breakwater.record_action(actor, 'worker.undrain', v_name, undrain_worker.reason,
                                     jsonb_build_object('worker', undrain_worker.worker));
    return true;
end
$$;
