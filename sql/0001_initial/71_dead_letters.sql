-- Redriving and purging of dead letters, one by one and in bulk.

-- Puts one dead letter back as a job, with all its settings and its counters reset. Returns false if it does not exist.
-- If a newer live job has its unique key, this is refused, and the dead letter stays. It waits up to five seconds for
-- an open transaction that has the key. If a job has its id, it gets a new one. With a payload, the job gets that one.
create function breakwater.redrive(
    id bigint, reason text default null, actor text default session_user, payload jsonb default null
) returns boolean
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
    if redrive.payload is not null then
        v_dead.payload := redrive.payload;
    elsif v_dead.reason = 'unreadable' then
        raise exception 'dead letter % cannot be redriven: its payload could not be read, and is lost', v_dead.id
            using errcode = '22023', hint = 'Give another payload; or enqueue the job anew, and purge this dead letter.';
    end if;
    if exists (select from breakwater.job j where j.id = v_dead.id) then
        v_number := breakwater.new_job_number();
    end if;
    insert into breakwater.job (
        id, lease, queue, kind, priority, payload, max_attempts, unique_key, traceparent, tracestate, errors, enqueued_at,
        order_key)
    overriding system value
    -- It keeps its id, but its lease is a new number, so that no earlier claim holds it again.
    values (v_number, nextval('breakwater.lease'), v_dead.queue, v_dead.kind, v_dead.priority, v_dead.payload,
            v_dead.max_attempts, v_dead.unique_key, v_dead.traceparent, v_dead.tracestate, nullif(v_dead.errors, '[]'),
            v_dead.enqueued_at, breakwater.order_key_of(v_dead.kind, v_dead.payload))
    on conflict (kind, unique_key) where unique_key is not null do nothing;
    if not found then
        raise exception 'dead letter % has the unique key ''%'', which a newer job of the kind ''%'' has now',
            v_dead.id, v_dead.unique_key, v_dead.kind
            using errcode = '23505', hint = 'Redrive it when that job has ended, or purge it.';
    end if;
    delete from breakwater.dead_letter d where d.id = v_dead.id;
    perform breakwater.follow_redriven(array[v_dead.id], array[v_number]);
    perform breakwater.end_halts();
    perform breakwater.record_action(actor, 'dead_letter.redrive', 'job ' || id, redrive.reason,
                                     jsonb_strip_nulls(jsonb_build_object(
                                         'id', id, 'kind', v_dead.kind, 'new_id', nullif(v_number, v_dead.id),
                                         'payload', case when redrive.payload is not null then 'changed' end)));
    return true;
end
$$;

-- Lets what belongs to dead letters that have become jobs again follow them: their checkpoints, and the jobs that wait
-- for them. A job may have got a new id.
create function breakwater.follow_redriven(p_dead bigint[], p_jobs bigint[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if p_dead <> p_jobs then
        update breakwater.progress p set job = n.job
          from unnest(p_dead, p_jobs) n(id, job)
         where p.job = n.id and n.job <> n.id;
    end if;
    perform breakwater.revive_dependencies(p_dead, p_jobs);
end
$$;

-- Picks the dead letters that meet all conditions that are not null, oldest first. With `p_to_be_jobs`, it leaves out
-- those whose payload could not be read and those whose unique key a job has; otherwise a portion of these would be
-- picked again and again. Locks them, and skips those that another session has locked.
create function breakwater.pick_dead_letters(
    p_ids bigint[], p_kind text, p_died_of text, p_failure text, p_died_until timestamptz, p_limit integer,
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
           and (p_died_of is null or d.reason = p_died_of)
           and (p_failure is null or d.failure = p_failure collate "C")
           and (p_died_until is null or d.died_at <= p_died_until)
           and (p_incident is null
                or (d.kind = any (v_kinds) and d.died_at >= v_incident.began_at and d.died_at <= v_incident.ended_at
                    and breakwater.belongs_to_circuit(d, v_incident.kind, v_incident.key)))
           and not (p_to_be_jobs and d.reason = 'unreadable')
           and not (p_to_be_jobs and d.unique_key is not null and exists (
                   select from breakwater.job j where j.kind = d.kind and j.unique_key = d.unique_key))
         order by d.died_at, d.id
         limit p_limit
           for update skip locked);
end
$$;

-- Writes the audit log's row for an action on many dead letters, which all portions of a run share. p_audit is the
-- result of the previous portion, null for the first.
create function breakwater.record_portion(
    p_audit bigint, p_actor text, p_action text, p_reason text, p_count integer, p_ids bigint[], p_kind text,
    p_died_of text, p_failure text, p_died_until timestamptz, p_incident bigint default null
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
             else coalesce(concat_ws(', ', 'incident ' || p_incident, p_kind, p_died_of, nullif(p_failure, '')), '') end,
        p_reason,
        jsonb_strip_nulls(jsonb_build_object(
            'count', p_count, 'ids', p_ids, 'kind', p_kind, 'died_of', p_died_of, 'failure', p_failure,
            'died_until', p_died_until, 'incident', p_incident)));
end
$$;

-- Puts back a portion of the dead letters that pick_dead_letters picks, the oldest, at most p_limit. Those whose unique
-- key a newer job has are left. When `picked` is 0, nothing is left to do. Pass `audit` on to the next portion. It
-- waits up to five seconds for an open transaction that has one of the keys.
create function breakwater.redrive_some(
    p_ids bigint[], p_kind text, p_died_of text, p_failure text, p_died_until timestamptz, p_limit integer, p_reason text,
    p_actor text, p_audit bigint default null, p_incident bigint default null,
    out picked integer, out done integer, out audit bigint
)
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '5s'
as $$
declare
    v_ids bigint[] := breakwater.pick_dead_letters(
        p_ids, p_kind, p_died_of, p_failure, p_died_until, p_limit, true, p_incident);
    v_dead bigint[];
    v_jobs bigint[];
begin
    picked := cardinality(v_ids);
    with chosen as materialized (
        select d.*, case when exists (select from breakwater.job j where j.id = d.id)
                         then breakwater.new_job_number() else d.id end as number
          from breakwater.dead_letter d where d.id = any (v_ids)
    ), back as (
        insert into breakwater.job (
            id, lease, queue, kind, priority, payload, max_attempts, unique_key, traceparent, tracestate, errors,
            enqueued_at, order_key)
        overriding system value
        -- As in redrive(id).
        select d.number, nextval('breakwater.lease'), d.queue, d.kind, d.priority, d.payload, d.max_attempts, d.unique_key,
               d.traceparent, d.tracestate, nullif(d.errors, '[]'), d.enqueued_at,
               breakwater.order_key_of(d.kind, d.payload)
          from chosen d order by d.died_at, d.id
        on conflict (kind, unique_key) where unique_key is not null do nothing
        returning job.id
    ), gone as (
        delete from breakwater.dead_letter d using back b join chosen c on c.number = b.id where d.id = c.id
        returning d.id, b.id as job
    )
    select count(*), array_agg(g.id), array_agg(g.job) into done, v_dead, v_jobs from gone g;
    perform breakwater.follow_redriven(v_dead, v_jobs) where done > 0;
    perform breakwater.end_halts();
    audit := breakwater.record_portion(p_audit, p_actor, 'dead_letter.redrive', p_reason, done, p_ids, p_kind, p_died_of,
                                       p_failure, p_died_until, p_incident);
end
$$;

-- Permanently deletes a portion of the dead letters that pick_dead_letters picks. Its results are those of
-- redrive_some.
create function breakwater.purge_some(
    p_ids bigint[], p_kind text, p_died_of text, p_failure text, p_died_until timestamptz, p_limit integer, p_reason text,
    p_actor text, p_audit bigint default null, p_incident bigint default null,
    out picked integer, out done integer, out audit bigint
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_ids bigint[] := breakwater.pick_dead_letters(
        p_ids, p_kind, p_died_of, p_failure, p_died_until, p_limit, false, p_incident);
begin
    picked := cardinality(v_ids);
    delete from breakwater.dead_letter d where d.id = any (v_ids);
    get diagnostics done = row_count;
    perform breakwater.end_dependencies(v_ids, 'gone');
    perform breakwater.end_halts();
    audit := breakwater.record_portion(p_audit, p_actor, 'dead_letter.purge', p_reason, done, p_ids, p_kind, p_died_of,
                                       p_failure, p_died_until, p_incident);
end
$$;

-- Puts back the oldest dead letters of a kind (or of all, when null) and of a reason (or any), at most limit_to. Those
-- whose unique key a newer job has are left. Returns how many were put back.
create function breakwater.redrive(
    kind text, died_of text default null, limit_to integer default 1000, reason text default null,
    actor text default session_user
) returns integer
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select r.done from breakwater.redrive_some(null, kind, died_of, null, null, limit_to, reason, actor) r $$;

-- Permanently deletes dead letters of a kind (null: of all) and a reason (null: any) that are older than an interval.
-- Returns how many.
create function breakwater.purge(
    kind text, died_of text default null, older_than interval default '0', limit_to integer default 10000,
    reason text default null, actor text default session_user
) returns integer
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select r.done from breakwater.purge_some(null, kind, died_of, null, now() - older_than, limit_to, reason, actor) r $$;

-- Permanently deletes one dead letter. Returns false if it does not exist.
create function breakwater.purge(id bigint, reason text default null, actor text default session_user) returns boolean
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
    perform breakwater.end_dependencies(array[purge.id], 'gone');
    perform breakwater.end_halts();
    perform breakwater.record_action(actor, 'dead_letter.purge', 'job ' || id, purge.reason,
                                     jsonb_build_object('id', id, 'kind', v_kind));
    return true;
end
$$;
