-- Dependants: how the end of a job releases the jobs that wait for it.
--
-- Whatever ends a job notes this in its rows of breakwater.dependency, in the same transaction, and then releases the
-- dependants that have nothing left to wait for. For this it locks the dependant's row, so a dependant is released
-- once. If the last two dependencies of a dependant end at the same moment, neither transaction sees the other's
-- change. But the second one finds the row locked, and leaves the dependant in dependant_to_check for maintenance.
--
-- Nothing waits for another session here: rows that are locked are skipped, and left to maintenance.

-- Whether any job waits for another. It is nearly always false, and then the end of a job costs no more than this.
create function breakwater.has_dependencies() returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (select from breakwater.dependency d where d.state = 'waiting');
end
$$;

-- Notes that jobs have ended, as `succeeded`, `dead` or `gone`, and releases dependants that have nothing left to wait
-- for. This may be called in a settle, so very many ends and dependants are left to maintenance.
create function breakwater.end_dependencies(p_jobs bigint[], p_state text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    -- The most rows to note ends in, and the most dependants to release.
    c_most_ends       constant integer := 4000;
    c_most_dependants constant integer := 200;
    v_dependants bigint[];
    v_count integer := (
        select count(*) from (select from breakwater.dependency d
                               where d.job = any (p_jobs) and d.state in ('waiting', 'dead') and d.state <> p_state
                               limit c_most_ends + 1) d);
begin
    if v_count > c_most_ends then
        insert into breakwater.ended_dependency (job, state)
        select j, p_state from unnest(p_jobs) j
         where exists (select from breakwater.dependency d
                        where d.job = j and d.state in ('waiting', 'dead') and d.state <> p_state)
        on conflict (job) do update set state = excluded.state;
    elsif v_count > 0 then
        v_dependants := breakwater.note_ends(p_jobs, p_state, c_most_ends);
        perform breakwater.release_dependants(v_dependants[:c_most_dependants], true);
        insert into breakwater.dependant_to_check (dependant)
        select d from unnest(v_dependants[c_most_dependants + 1:]) d;
    end if;
end
$$;

-- Notes the ends of jobs in at most p_limit rows, and returns the dependants concerned.
create function breakwater.note_ends(p_jobs bigint[], p_state text, p_limit integer) returns bigint[]
language plpgsql set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_dependants bigint[];
    v_jobs       bigint[];
begin
    select coalesce(array_agg(e.dependant), '{}'), array_agg(e.job) into v_dependants, v_jobs
      from (select d.dependant, d.job from breakwater.dependency d
             where d.job = any (p_jobs) and d.state in ('waiting', 'dead') and d.state <> p_state
             order by d.dependant, d.job
             limit p_limit) e;
    update breakwater.dependency d set state = p_state, is_new = false
      from unnest(v_dependants, v_jobs) e(dependant, job)
     where d.dependant = e.dependant and d.job = e.job;
    return array(select distinct d from unnest(v_dependants) d);
end
$$;

-- Releases those of the given dependants that have nothing left to wait for, and cancels those that are to be
-- cancelled. Returns how many.
--
-- With `p_quickly`, as part of ending a job, it leaves callbacks of batches and those that are to be cancelled to
-- maintenance. So it leaves those whose rows are locked: another transaction is ending a job, or adding one to a batch.
--
-- Locks: the dependants' rows and their jobs, by SKIP LOCKED.
create function breakwater.release_dependants(p_dependants bigint[], p_quickly boolean) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_locked   bigint[];
    v_one      record;
    v_ids      bigint[];
    v_job      breakwater.job;
    v_kinds    text[] := '{}';
    v_done     bigint[] := '{}';
    v_to_check bigint[] := '{}';
begin
    v_locked := array(
        select d.job from breakwater.dependant d
         where d.job = any (p_dependants) and d.released_at is null and not (p_quickly and d.is_batch)
         order by d.job
           for update skip locked);
    v_ids := breakwater.without_held(array(
        select j.id from breakwater.job j
         where j.id = any (v_locked) and breakwater.waits_for_jobs(j)
         order by j.id for update skip locked));
    -- This is a statement of its own, so that it sees what was committed before the rows were locked.
    for v_one in
        select d.job, v.verdict, v.reason from breakwater.dependant d cross join lateral breakwater.verdict_on(d) v
         where d.job = any (v_locked)
         order by d.job
    loop
        continue when v_one.verdict = 'wait';
        select * into v_job from breakwater.job j where j.id = v_one.job;
        if v_job.id is null or not breakwater.waits_for_jobs(v_job) then
            -- Somebody changed its row by hand.
            v_done := v_done || v_one.job;
        elsif v_one.job <> all (v_ids) or p_quickly and v_one.verdict = 'cancel' then
            v_to_check := v_to_check || v_one.job;
        elsif v_one.verdict = 'cancel' then
            perform breakwater.dead_letter_job(
                v_job.id, 'cancelled',
                breakwater.add_error(v_job.errors, v_job.attempt, 'cancelled', 'dependency', v_one.reason, null));
            v_done := v_done || v_one.job;
        else
            perform breakwater.release_dependant(v_one.job);
            v_kinds := v_kinds || v_job.kind::text;
            v_done := v_done || v_one.job;
        end if;
    end loop;
    update breakwater.dependant d set released_at = now() where d.job = any (v_done) and d.released_at is null;
    perform breakwater.wake(v_kinds) where v_kinds <> '{}';
    insert into breakwater.dependant_to_check (dependant)
    select d.job from breakwater.dependant d
     where d.released_at is null
       and (d.job = any (v_to_check) or d.job = any (p_dependants) and d.job <> all (v_locked));
    return cardinality(v_done);
end
$$;

-- What is to be done with a dependant: `wait`, `release` or `cancel`, and why it is cancelled.
create function breakwater.verdict_on(p_dependant breakwater.dependant, out verdict text, out reason text)
language plpgsql stable set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    -- One that is gone can never succeed.
    v_gone bigint := (select d.job from breakwater.dependency d
                       where d.dependant = p_dependant.job and d.state = 'gone' order by d.job limit 1);
    v_dead bigint := (select d.job from breakwater.dependency d
                       where d.dependant = p_dependant.job and d.state = 'dead' order by d.job limit 1);
begin
    if v_gone is not null and p_dependant.on_dead <> 'run' then
        verdict := 'cancel';
        reason := format('job %s, which it waited for, was purged or deleted', v_gone);
    elsif v_dead is not null and p_dependant.on_dead = 'cancel' then
        verdict := 'cancel';
        reason := format('job %s, which it waited for, is a dead letter', v_dead);
    elsif p_dependant.is_open or v_dead is not null and p_dependant.on_dead = 'hold'
          -- The last one is looked up, because jobs end roughly in their order, and dead index entries are then where
          -- the first ones were.
          or (select d.job from breakwater.dependency d
               where d.dependant = p_dependant.job and d.state = 'waiting'
               order by d.job desc limit 1) is not null
    then
        verdict := 'wait';
    else
        verdict := 'release';
    end if;
end
$$;

-- Whether a job is where a dependant waits: outside its lane, for nothing else.
create function breakwater.waits_for_jobs(p_job breakwater.job) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp
as $$
    select coalesce(p_job.run_at = 'infinity', false) and num_nonnulls(p_job.parked, p_job.rule) = 0
           and p_job.crashes < 2
$$;

-- Makes a dependant ready, or lets it wait for its time. The callback of a batch gets the key `batch` in its payload.
create function breakwater.release_dependant(p_job bigint) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_dependant breakwater.dependant;
    v_summary   jsonb;
begin
    select * into v_dependant from breakwater.dependant d where d.job = p_job;
    if v_dependant.is_batch then
        v_summary := breakwater.summary_of_batch(p_job);
        begin
            update breakwater.job j
               set payload = j.payload || jsonb_build_object(
                       'batch', v_summary || case when v_dependant.with_results
                                                  then jsonb_build_object('results', breakwater.results_of_batch(p_job))
                                                  else '{}' end)
             where j.id = p_job;
        exception when program_limit_exceeded or check_violation then
            -- The results are too long, or the payload has no room even for the summary.
            update breakwater.job j
               set payload = j.payload || jsonb_build_object('batch', v_summary || '{"results_too_long": true}')
             where j.id = p_job and pg_column_size(j.payload) < 67000000;
        end;
    end if;
    update breakwater.job j
       set run_at = case when v_dependant.run_at > now() then v_dependant.run_at end,
           ready_at = now(), position = nextval('breakwater.job_position')
     where j.id = p_job;
end
$$;

-- What the callback of a batch gets to know: the batch's id, how many jobs it had, how many succeeded and how many
-- died.
create function breakwater.summary_of_batch(p_batch bigint) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp set jit = off
as $$
    select jsonb_build_object('id', p_batch, 'jobs', count(*),
                              'succeeded', count(*) filter (where d.state = 'succeeded'),
                              'dead', count(*) filter (where d.state in ('dead', 'gone')))
      from breakwater.dependency d where d.dependant = p_batch
$$;

-- The results of a batch's jobs, if their kinds keep results.
create function breakwater.results_of_batch(p_batch bigint) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp set jit = off
as $$
    select coalesce(jsonb_agg(jsonb_build_object('job', d.job, 'result', r.result) order by d.job), '[]')
      from breakwater.dependency d
      join breakwater.result r on r.id = d.job
     where d.dependant = p_batch and d.state = 'succeeded'
$$;

-- Forgets that a job waits for others: it has become a dead letter, or somebody made it run.
create function breakwater.end_waiting(p_job bigint) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from breakwater.dependant d where d.released_at is null) then
        update breakwater.dependant d set released_at = now() where d.job = p_job and d.released_at is null;
        if found then
            delete from breakwater.dependency d where d.dependant = p_job and d.state = 'waiting';
        end if;
    end if;
end
$$;

-- Lets dependants wait again for dead letters that have become jobs again. A job may have got a new id.
create function breakwater.revive_dependencies(p_dead bigint[], p_jobs bigint[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
begin
    -- Nearly always no dead letter has dependants.
    if not exists (select from breakwater.dependency d where d.state = 'dead')
       and not exists (select from breakwater.ended_dependency)
    then
        return;
    end if;
    delete from breakwater.ended_dependency e where e.job = any (p_dead);
    update breakwater.dependency d
       set state = 'waiting', job = p_jobs[array_position(p_dead, d.job)]
     where d.job = any (p_dead) and d.state in ('dead', 'waiting')
       and exists (select from breakwater.dependant a where a.job = d.dependant and a.released_at is null);
end
$$;

-- Does the part of releasing that is left to maintenance, until nothing is left or two seconds have passed. Returns how
-- many dependants it released or cancelled.
create function breakwater.check_dependants(p_limit integer) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_until      timestamptz := clock_timestamp() + interval '2 seconds';
    v_state      text;
    v_jobs       bigint[];
    v_dependants bigint[];
    v_released   integer;
    v_count      integer := 0;
begin
    if not exists (select from breakwater.dependant) then
        return 0;
    end if;
    if random() < 0.02 then
        perform breakwater.find_deleted_dependencies();
        perform breakwater.forget_dependants(p_limit);
    end if;
    loop
        v_released := 0;
        select e.state into v_state from breakwater.ended_dependency e order by e.job limit 1;
        if found then
            v_jobs := array(select e.job from breakwater.ended_dependency e
                             where e.state = v_state order by e.job limit p_limit);
            v_dependants := breakwater.note_ends(v_jobs, v_state, p_limit);
            if v_dependants = '{}' then
                delete from breakwater.ended_dependency e where e.job = any (v_jobs);
            end if;
            v_released := breakwater.release_dependants(v_dependants, false);
        end if;
        with checked as (
            delete from breakwater.dependant_to_check c
             where c.ctid = any (array(select o.ctid from breakwater.dependant_to_check o limit p_limit))
            returning c.dependant
        )
        select coalesce(array_agg(distinct c.dependant), '{}') into v_dependants from checked c;
        v_released := v_released + breakwater.release_dependants(v_dependants, false);
        v_count := v_count + v_released;
        exit when v_released = 0 and v_state is null or clock_timestamp() > v_until;
    end loop;
    return v_count;
end
$$;

-- Finds out whether dependencies had ended before they were committed. A job is locked for this, because another
-- transaction may just be ending it without seeing the dependency.
--
-- A job that is neither live nor a dead letter has succeeded. Locks: the jobs, by SKIP LOCKED. Their settles wait for
-- this, so it is a chore of its own, and short.
create function breakwater.check_new_dependencies(p_limit integer) returns void
language plpgsql set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
    v_jobs bigint[] := array(select distinct n.job from (
        select d.job from breakwater.dependency d where d.is_new order by d.job limit p_limit) n);
    v_live bigint[];
    v_kept bigint[];
begin
    if v_jobs = '{}' then
        return;
    end if;
    v_live := array(select j.id from breakwater.job j
                     where j.id = any (v_jobs) order by j.id for key share skip locked);
    update breakwater.dependency d set is_new = false where d.job = any (v_live) and d.is_new;
    v_jobs := array(select n from unnest(v_jobs) n
                     where not exists (select from breakwater.job j where j.id = n)
                       and not exists (select from breakwater.ended_dependency e where e.job = n));
    v_kept := array(select d.id from breakwater.dead_letter d where d.id = any (v_jobs));
    perform breakwater.end_dependencies(v_kept, 'dead') where v_kept <> '{}';
    v_jobs := array(select n from unnest(v_jobs) n where n <> all (v_kept));
    perform breakwater.end_dependencies(v_jobs, 'succeeded') where v_jobs <> '{}';
end
$$;

-- Finds dependencies whose rows somebody deleted by hand, and dependants whose own row was.
create function breakwater.find_deleted_dependencies() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_gone bigint[] := array(
        select distinct d.job from breakwater.dependency d
         where d.state = 'waiting' and not d.is_new
           and not exists (select from breakwater.job j where j.id = d.job)
           and not exists (select from breakwater.ended_dependency e where e.job = d.job)
         limit 1000);
begin
    perform breakwater.end_dependencies(v_gone, 'gone') where v_gone <> '{}';
    perform breakwater.end_waiting(d.job)
       from breakwater.dependant d
      where d.released_at is null and not exists (select from breakwater.job j where j.id = d.job);
end
$$;

-- Deletes the rows of dependants that were released more than a day ago.
create function breakwater.forget_dependants(p_limit integer) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
    with gone as (
        delete from breakwater.dependant d where d.job = any (array(
            select o.job from breakwater.dependant o
             where o.released_at < now() - interval '1 day' order by o.released_at limit p_limit))
        returning d.job
    )
    delete from breakwater.dependency d using gone g where d.dependant = g.job;
$$;

-- Why a dependant waits, in words; null if it does not wait for other jobs.
create function breakwater.why_dependent(p_job bigint) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off
as $$
declare
    v_dependant breakwater.dependant;
    v_dead      bigint;
    v_waiting   bigint[];
    v_count     bigint;
    v_total     bigint;
begin
    select * into v_dependant from breakwater.dependant d where d.job = p_job and d.released_at is null;
    if not found then
        return null;
    end if;
    if v_dependant.on_dead = 'hold' then
        select d.job into v_dead from breakwater.dependency d
         where d.dependant = p_job and d.state = 'dead' order by d.job limit 1;
        if found then
            return format('waits for job %s, which is a dead letter: redrive that one, or purge it to cancel this one',
                          v_dead);
        end if;
    end if;
    v_waiting := array(select d.job from breakwater.dependency d
                        where d.dependant = p_job and d.state = 'waiting' order by d.job limit 4);
    if v_waiting = '{}' then
        return case when v_dependant.is_open then 'waits until its batch is closed (breakwater.close_batch)'
                    else 'all jobs that it waited for have ended: it becomes ready in a moment' end;
    end if;
    select count(*) filter (where d.state = 'waiting'), count(*) into v_count, v_total
      from breakwater.dependency d where d.dependant = p_job;
    return case when v_total = 1 then format('waits for job %s', v_waiting[1])
                else format('waits for %s of %s jobs: %s%s', v_count, v_total, array_to_string(v_waiting[:3], ', '),
                            case when v_count > 3 then ', …' else '' end) end;
end
$$;
