-- Manual changes of what a waiting job does: its payload, its time, its attempts; and why a job still waits.

-- Changes a waiting job's payload, run_at and max_attempts; null leaves one as it is. A run_at that is past makes the
-- job ready now. Returns false if the job does not exist or is running.
--
-- Its limits, its order, its share and the circuit of its key depend on the payload. So with another payload, the job
-- leaves whatever holds it back, jobs that waited for its key go on, and the next claim judges it anew. Its attempts
-- and its unique key stay.
create function breakwater.edit_job(
    id bigint, payload jsonb default null, run_at timestamptz default null, max_attempts integer default null,
    reason text default null, actor text default session_user
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_old      breakwater.job;
    v_is_moved boolean;
    v_waits    boolean;
begin
    if num_nonnulls(edit_job.payload, edit_job.run_at, edit_job.max_attempts) = 0 then
        raise exception 'nothing says what to change of job %', edit_job.id
            using errcode = '22023', hint = 'Give payload, run_at, or max_attempts.';
    elsif edit_job.run_at not between '1970-01-01Z' and '9999-12-31Z' then
        raise exception 'run_at % is no time at which a job could run', edit_job.run_at
            using errcode = '22023', hint = 'Give a time from 1970 to 9999, or cancel the job, or pause its kind.';
    elsif edit_job.max_attempts < 1 then
        raise exception 'max_attempts % is not at least 1', edit_job.max_attempts
            using errcode = '22023', hint = 'Cancel the job if it should not run at all.';
    end if;
    if not breakwater.lock_to_change(edit_job.id) then
        return false;
    end if;
    select * into v_old from breakwater.job j where j.id = edit_job.id;
    if v_old.crashes >= 2 and edit_job.run_at is not null then
        raise exception 'job % cannot get another time: % of its workers in a row were lost while they held it',
            edit_job.id, v_old.crashes
            using errcode = '22023',
                  hint = 'It runs apart from others, as soon as a worker holds no other job. Or cancel it.';
    end if;
    -- The others that waited for its key.
    if edit_job.payload is not null
       and exists (select from breakwater.handler h where h.kind = v_old.kind and h.rules is not null) then
        perform breakwater.free_keys_of_job(v_old);
    end if;
    v_is_moved := num_nonnulls(edit_job.payload, edit_job.run_at) > 0;
    -- A job that waits for others goes on waiting for them.
    update breakwater.dependant d set run_at = coalesce(edit_job.run_at, d.run_at)
     where d.job = v_old.id and d.released_at is null;
    v_waits := found;
    update breakwater.job j
       set payload = coalesce(edit_job.payload, j.payload),
           max_attempts = coalesce(edit_job.max_attempts, j.max_attempts),
           run_at = case when v_waits then j.run_at
                         when edit_job.run_at is not null
                             then case when edit_job.run_at > now() then edit_job.run_at end
                         when edit_job.payload is not null and num_nonnulls(j.parked, j.rule) > 0 then null
                         else j.run_at end,
           parked = case when not v_is_moved then j.parked end,
           rule = case when not v_is_moved then j.rule end,
           rule_key = case when not v_is_moved then j.rule_key end,
           order_key = case when j.order_key is not null
                            then breakwater.order_key_of(j.kind, coalesce(edit_job.payload, j.payload)) end,
           -- With another payload, its failures say something new.
           fails_alone = j.fails_alone and edit_job.payload is null,
           position = case when v_is_moved then nextval('breakwater.job_position') else j.position end
     where j.id = v_old.id;
    if v_is_moved then
        perform breakwater.wake(array[v_old.kind]);
    end if;
    perform breakwater.record_action(
        actor, 'job.edit', 'job ' || id, edit_job.reason,
        jsonb_strip_nulls(jsonb_build_object(
            'id', id, 'kind', v_old.kind,
            -- The audit log has no payloads.
            'payload', case when edit_job.payload is not null then 'changed' end,
            'run_at', edit_job.run_at, 'max_attempts', edit_job.max_attempts,
            'old_run_at', case when edit_job.run_at is not null then v_old.run_at end,
            'old_max_attempts', case when edit_job.max_attempts is not null then v_old.max_attempts end)));
    return true;
end
$$;

-- Why a job that is ready, or was just made ready, still does not start: a pause, an open circuit (also that of its
-- key), a rule, or that no worker handles its kind. null: nothing but a free worker is missing, or it does not wait.
create function breakwater.why_waits(id bigint) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_job    breakwater.job;
    v_status record;
    v_rule   breakwater.flow_rule;
    v_why    text;
begin
    select * into v_job from breakwater.job j where j.id = why_waits.id;
    select s.state, s.why into v_status from breakwater.job_status s where s.id = why_waits.id;
    if v_status.state in ('paused', 'circuit_open', 'circuit_half_open', 'limited', 'ordered', 'no_handler') then
        return v_status.why;
    elsif v_status.state is distinct from 'ready' then
        return null;
    end if;
    -- The next claim parks the job again if the circuit of its key is not closed.
    select case c.state when 'open'
                then format('the circuit of ''%s'' is open until %s: %s', breakwater.circuit_name(c.kind, c.key),
                            coalesce(c.retry_at::text, c.override_until::text, 'somebody closes it'), c.reason)
                else format('the circuit of ''%s'' is half-open: only probes run',
                            breakwater.circuit_name(c.kind, c.key))
           end
      into v_why
      from breakwater.handler h
      join breakwater.circuit c on c.kind = h.kind and c.key = breakwater.key_of(v_job.payload, h.key_path)
     where h.kind = v_job.kind and h.key_path is not null and h.shared_key is null and c.key <> ''
       and c.state <> 'closed';
    if found then
        return v_why;
    end if;
    -- It holds the job back again if a rule with a key does not let it start.
    for v_rule in
        select r.* from breakwater.handler h join breakwater.flow_rule r on r.id = any (h.rules)
         where h.kind = v_job.kind and r.key_path is not null and r.type in ('order', 'limit')
         order by r.id
    loop
        v_job.rule := v_rule.id;
        v_job.rule_key := breakwater.key_of(v_job.payload, v_rule.key_path);
        if v_rule.type = 'limit'
           or exists (select from breakwater.halted_key b where b.kind = v_job.kind and b.key = v_job.rule_key)
           or exists (select from breakwater.held_under(breakwater.state_of_rule(v_rule), array[v_job.rule_key]))
           or exists (select from breakwater.job j
                       where j.kind = v_job.kind and j.order_key = v_job.rule_key and j.id < v_job.id)
        then
            v_why := breakwater.why_held_back(v_job);
            if v_why is not null then
                return v_why;
            end if;
        end if;
    end loop;
    return null;
end
$$;
