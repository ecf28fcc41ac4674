-- Renaming a kind: waiting jobs of the old kind get the new one, and so another handler.

-- Renames a portion of a kind's jobs and dead letters. Waiting, scheduled and retrying jobs keep their times and their
-- attempts; parked ones are ready again, because the circuits of the new kind decide about them. Running jobs are left:
-- their run belongs to its handler, and if they become ready again, they keep the old kind. Jobs whose unique key a job
-- of the new kind already has are left as well. Schedules of the old kind enqueue jobs of the new one from now on.
--
-- `p_after` is the `last` of the previous portion, null for the first. When `is_last` is true, nothing is left to do.
-- Pass `audit` on to the next portion, which adds to the same row of the audit log. `busy` counts jobs that ran, or
-- that another session had locked; `taken` counts those whose unique key was taken.
--
-- Locks: the jobs and dead letters that it renames, by SKIP LOCKED; the schedules that it changes.
create function breakwater.rename_kind_some(
    old_kind text, new_kind text, p_after bigint, p_limit integer, reason text, actor text, p_audit bigint default null,
    out jobs integer, out dead_letters integer, out busy integer, out taken integer, out last bigint, out is_last boolean,
    out audit bigint
)
language plpgsql security definer set search_path = pg_catalog, pg_temp set jit = off
as $$
#variable_conflict use_column
declare
    -- All jobs are read in the order of ids, because no index has all jobs of one kind.
    v_seen   bigint[] := array(select j.id from breakwater.job j where j.id > coalesce(p_after, -9223372036854775808)
                                order by j.id limit 10 * p_limit);
    v_ids    bigint[];
    v_locked bigint[];
begin
    if rename_kind_some.old_kind is null or rename_kind_some.old_kind = rename_kind_some.new_kind then
        raise exception 'the kind ''%'' has that name already', rename_kind_some.new_kind
            using errcode = '22023', hint = 'Name the old kind first, then the new one.';
    end if;
    perform breakwater.check_enqueue(rename_kind_some.new_kind, 'default', 5, null);
    v_ids := array(select j.id from breakwater.job j
                    where j.id = any (v_seen) and j.kind = rename_kind_some.old_kind collate "C");
    v_locked := breakwater.lock_waiting(v_ids);
    update breakwater.job j
       set kind = rename_kind_some.new_kind,
           run_at = case when j.parked is null and j.rule is null then j.run_at end, parked = null,
           rule = null, rule_key = null, order_key = null,
           ready_at = case when j.parked is null then j.ready_at else now() end,
           position = nextval('breakwater.job_position')
     where j.id = any (v_locked) and j.kind = rename_kind_some.old_kind collate "C"
       and not exists (select from breakwater.job o
                        where o.kind = rename_kind_some.new_kind collate "C" and o.unique_key = j.unique_key);
    get diagnostics jobs = row_count;
    busy := cardinality(v_ids) - cardinality(v_locked);
    taken := cardinality(v_locked) - jobs;

    update breakwater.schedule s set kind = rename_kind_some.new_kind
     where s.kind = rename_kind_some.old_kind collate "C";

    update breakwater.dead_letter d set kind = rename_kind_some.new_kind
     where d.id = any (array(select o.id from breakwater.dead_letter o
                              where o.kind = rename_kind_some.old_kind collate "C"
                              order by o.died_at limit p_limit for update skip locked));
    get diagnostics dead_letters = row_count;

    last := coalesce(v_seen[cardinality(v_seen)], p_after);
    is_last := v_seen = '{}' and dead_letters = 0;
    if jobs > 0 then
        perform breakwater.wake(array[rename_kind_some.new_kind]);
    end if;
    update breakwater.audit a
       set details = a.details || jsonb_build_object('jobs', (a.details ->> 'jobs')::bigint + rename_kind_some.jobs,
                                                     'dead_letters', (a.details ->> 'dead_letters')::bigint
                                                                     + rename_kind_some.dead_letters)
     where a.id = p_audit
    returning a.id into audit;
    if audit is null then
        audit := breakwater.record_action(
            rename_kind_some.actor, 'kind.rename', rename_kind_some.old_kind, rename_kind_some.reason,
            jsonb_build_object('to', rename_kind_some.new_kind, 'jobs', jobs, 'dead_letters', dead_letters));
    end if;
end
$$;

-- Renames a kind's jobs and dead letters, all of them in one transaction. Returns how many jobs and dead letters it
-- renamed, and how many jobs it left (see rename_kind_some). `worker rename-kind` does the same in portions.
create function breakwater.rename_kind(
    old_kind text, new_kind text, reason text default null, actor text default session_user,
    out jobs bigint, out dead_letters bigint, out left_alone bigint
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_portion record;
    v_last    bigint;
    v_audit   bigint;
begin
    jobs := 0;
    dead_letters := 0;
    left_alone := 0;
    loop
        select * into v_portion
          from breakwater.rename_kind_some(old_kind, new_kind, v_last, 1000, rename_kind.reason, actor, v_audit);
        v_last := v_portion.last;
        v_audit := v_portion.audit;
        jobs := jobs + v_portion.jobs;
        dead_letters := dead_letters + v_portion.dead_letters;
        left_alone := left_alone + v_portion.busy + v_portion.taken;
        exit when v_portion.is_last;
    end loop;
end
$$;
