-- Manual actions on jobs: cancel, run now, and change the priority.

-- Cancels a job. A waiting job becomes a dead letter at once. The worker of a running job is asked to cancel the run,
-- within about a second, and the end of the run makes the job a dead letter, unless the run succeeds first (see
-- breakwater.cancel_request). Returns true if the job is or will be cancelled, and false if it does not exist or
-- another session has locked it for five seconds.
create function breakwater.cancel(id bigint, reason text default null, actor text default session_user) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '5s'
as $$
#variable_conflict use_column
declare
    v_kind   text;
    v_worker bigint;
begin
    begin
        -- A run that ends at this moment is awaited, so that the job is known to wait or to run.
        select j.kind into v_kind from breakwater.job j where j.id = cancel.id for update;
    exception when lock_not_available then
        return false;
    end;
    if v_kind is null then
        return false;
    elsif breakwater.lock_to_change(cancel.id) then
        perform breakwater.dead_letter_job(cancel.id, 'cancelled', null);
    else
        v_worker := breakwater.request_cancel(cancel.id, cancel.reason, actor);
        if v_worker is null then
            return false;
        end if;
    end if;
    perform breakwater.record_action(actor, 'job.cancel', 'job ' || id, cancel.reason,
                                     jsonb_strip_nulls(jsonb_build_object(
                                         'id', id, 'kind', v_kind, 'worker', v_worker)));
    return true;
end
$$;

-- Makes a scheduled or retrying job ready now. Returns false if no such job waits for its time. A suspect is refused,
-- because together with other jobs it might kill the next worker as well.
--
-- If the job still waits, for example for its circuit, a notice says for what (see why_waits).
create function breakwater.run_now(id bigint, reason text default null, actor text default session_user) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_kind    text;
    v_crashes integer;
    v_why     text;
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
       set run_at = null, parked = null, rule = null, rule_key = null, ready_at = now(), position = nextval('breakwater.job_position')
     where j.id = run_now.id and j.run_at is not null
    returning j.kind into v_kind;
    if v_kind is null then
        return false;
    end if;
    perform breakwater.end_waiting(run_now.id);
    perform breakwater.wake(array[v_kind]);
    perform breakwater.record_action(actor, 'job.run_now', 'job ' || id, run_now.reason,
                                     jsonb_build_object('id', id, 'kind', v_kind));
    v_why := breakwater.why_waits(run_now.id);
    if v_why is not null then
        raise notice 'job % is ready, but still waits: %', run_now.id, v_why;
    end if;
    return true;
end
$$;

-- Gives a waiting job another priority, 0 to 9. It goes to the end of that lane. Returns false if it does not exist or
-- is running.
create function breakwater.set_priority(
    id bigint, priority integer, reason text default null, actor text default session_user
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
        actor, 'job.priority', 'job ' || id, set_priority.reason,
        jsonb_build_object('id', id, 'kind', v_old.kind, 'from', v_old.priority, 'to', set_priority.priority));
    return true;
end
$$;
