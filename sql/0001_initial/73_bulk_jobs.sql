-- Cancelling jobs in bulk, and making them ready.

-- Cancels waiting jobs (p_action cancel), or makes those ready that wait for a time or are held back (run_now): a
-- portion of the jobs that meet all conditions that are not null. p_payload is contained in the payload, and p_path
-- matches it (see matches_path). At least one of the four must be given. Suspects are not made ready (see run_now).
--
-- All jobs with ids above p_after are read in the order of their ids, up to p_until. p_after is the `last` of the
-- previous portion, null for the first; pass `audit` on as well, since all portions share one row of the audit log.
-- When `is_last` is true, nothing is left to do. `done` counts the jobs that were changed, or, with p_dry_run, those
-- that would be. `busy` counts those that match but run, or that another session has locked.
--
-- Locks: the jobs that it changes, by SKIP LOCKED.
create function breakwater.change_jobs_some(
    p_action text, p_kind text, p_queue text, p_payload jsonb, p_path jsonpath, p_until bigint, p_after bigint,
    p_limit integer, p_dry_run boolean, p_reason text, p_actor text, p_audit bigint default null,
    out done integer, out busy integer, out last bigint, out is_last boolean, out audit bigint
)
language plpgsql set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
declare
    v_seen   bigint[];
    v_ids    bigint[];
    v_locked bigint[] := '{}';
    v_held   bigint[];
    v_id     bigint;
begin
    if num_nonnulls(p_kind, p_queue, p_payload, p_path) = 0 then
        raise exception 'nothing says which jobs'
            using errcode = '22023',
                  hint = 'Give a kind, a queue, a payload that they contain, or a path that it matches.';
    elsif p_limit is null or p_limit < 1 then
        raise exception 'the limit % is not at least 1', coalesce(p_limit::text, 'NULL') using errcode = '22023';
    end if;
    done := 0;
    busy := 0;
    audit := p_audit;
    v_seen := array(select j.id from breakwater.job j
                     where j.id > coalesce(p_after, -9223372036854775808)
                       and j.id <= coalesce(p_until, 9223372036854775807)
                     order by j.id limit greatest(1000, p_limit));
    v_ids := array(
        select j.id from breakwater.job j
         where j.id = any (v_seen)
           and (p_kind is null or j.kind = p_kind collate "C") and (p_queue is null or j.queue = p_queue collate "C")
           and (p_payload is null or j.payload @> p_payload)
           and (p_path is null or breakwater.matches_path(j.payload, p_path))
           and (p_action = 'cancel' or (j.run_at is not null and j.crashes < 2))
         order by j.id limit p_limit);
    -- Jobs beyond the limit are left for the next portion.
    last := case when cardinality(v_ids) = p_limit then v_ids[p_limit] else v_seen[cardinality(v_seen)] end;
    is_last := cardinality(v_seen) < greatest(1000, p_limit) and cardinality(v_ids) < p_limit;
    last := coalesce(last, p_after);
    if p_dry_run then
        v_held := array(select h.job from breakwater.held h where h.job = any (v_ids));
        busy := cardinality(v_held);
        done := cardinality(v_ids) - busy;
        return;
    end if;
    if v_ids = '{}' then
        return;
    end if;
    v_locked := breakwater.lock_waiting(v_ids);
    if p_action = 'cancel' then
        foreach v_id in array v_locked loop
            perform breakwater.dead_letter_job(v_id, 'cancelled', null);
        end loop;
        done := cardinality(v_locked);
    else
        -- One by one, so that their new positions are in the order of their ids.
        foreach v_id in array array(select l from unnest(v_locked) l order by l) loop
            update breakwater.job j
               set run_at = null, parked = null, rule = null, rule_key = null, ready_at = now(),
                   position = nextval('breakwater.job_position')
             where j.id = v_id and j.run_at is not null;
            if found then
                done := done + 1;
            end if;
        end loop;
        perform breakwater.wake(array(select distinct j.kind from breakwater.job j where j.id = any (v_locked)));
    end if;
    busy := cardinality(v_ids) - done;
    if done = 0 then
        return;
    end if;
    update breakwater.audit a
       set details = a.details || jsonb_build_object('count', (a.details ->> 'count')::bigint + done)
     where a.id = p_audit;
    if not found then
        audit := breakwater.record_action(
            p_actor, 'jobs.' || p_action, concat_ws(', ', p_kind, p_queue, p_payload::text, p_path::text), p_reason,
            jsonb_strip_nulls(jsonb_build_object(
                'count', done, 'kind', p_kind, 'queue', p_queue, 'payload', p_payload, 'path', p_path::text)));
    end if;
end
$$;

-- Does change_jobs_some until nothing is left, or p_limit jobs were changed. Returns how many.
create function breakwater.change_all_jobs(
    p_action text, p_kind text, p_queue text, p_payload jsonb, p_path jsonpath, p_limit integer, p_dry_run boolean,
    p_reason text, p_actor text
) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_until   bigint := (select max(j.id) from breakwater.job j);
    v_portion record;
    v_last    bigint;
    v_audit   bigint;
    v_count   integer := 0;
begin
    loop
        select * into v_portion
          from breakwater.change_jobs_some(
               p_action, p_kind, p_queue, p_payload, p_path, v_until, v_last, p_limit - v_count, p_dry_run,
               p_reason, p_actor, v_audit);
        v_last := v_portion.last;
        v_audit := v_portion.audit;
        v_count := v_count + v_portion.done;
        if v_portion.is_last or v_count >= p_limit then
            return v_count;
        end if;
    end loop;
end
$$;

-- change_jobs_some for each of the two actions.
create function breakwater.cancel_jobs_some(
    p_kind text, p_queue text, p_payload jsonb, p_path jsonpath, p_until bigint, p_after bigint, p_limit integer,
    p_dry_run boolean, p_reason text, p_actor text, p_audit bigint default null,
    out done integer, out busy integer, out last bigint, out is_last boolean, out audit bigint
)
language sql security definer set search_path = pg_catalog, pg_temp
as $$
    select * from breakwater.change_jobs_some('cancel', p_kind, p_queue, p_payload, p_path, p_until, p_after, p_limit,
                                              p_dry_run, p_reason, p_actor, p_audit)
$$;
create function breakwater.run_jobs_now_some(
    p_kind text, p_queue text, p_payload jsonb, p_path jsonpath, p_until bigint, p_after bigint, p_limit integer,
    p_dry_run boolean, p_reason text, p_actor text, p_audit bigint default null,
    out done integer, out busy integer, out last bigint, out is_last boolean, out audit bigint
)
language sql security definer set search_path = pg_catalog, pg_temp
as $$
    select * from breakwater.change_jobs_some('run_now', p_kind, p_queue, p_payload, p_path, p_until, p_after, p_limit,
                                              p_dry_run, p_reason, p_actor, p_audit)
$$;

-- Cancels the oldest waiting jobs of a kind, a queue, or with a payload (null: any, but one must be given), at most
-- limit_to. Running jobs are left. Returns how many were cancelled; with dry_run, how many would be.
create function breakwater.cancel_jobs(
    kind text default null, queue text default null, payload jsonb default null, path jsonpath default null,
    limit_to integer default 10000, dry_run boolean default false, reason text default null,
    actor text default session_user
) returns integer
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select breakwater.change_all_jobs('cancel', kind, queue, payload, path, limit_to, dry_run, reason, actor) $$;

-- Makes those jobs ready that wait for a later time or for their next try, or that are held back, selected in the same
-- way. A job whose circuit is open still waits. Returns how many were made ready; with dry_run, how many would be.
create function breakwater.run_jobs_now(
    kind text default null, queue text default null, payload jsonb default null, path jsonpath default null,
    limit_to integer default 10000, dry_run boolean default false, reason text default null,
    actor text default session_user
) returns integer
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select breakwater.change_all_jobs('run_now', kind, queue, payload, path, limit_to, dry_run, reason, actor) $$;
