-- Writing the history of finished jobs, and its days.

-- Adds the partition of one day (in UTC), unless it exists.
-- Locks: only sessions that add or drop days wait for each other. Reading and writing go on.
create function breakwater.add_history_day(p_day date) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_name text := 'finished_job_' || to_char(p_day, 'YYYYMMDD');
begin
    if to_regclass('breakwater.' || v_name) is not null then
        return;
    end if;
    lock table only breakwater.finished_job in share update exclusive mode;
    -- Another session may have added it meanwhile.
    if to_regclass('breakwater.' || v_name) is not null then
        return;
    end if;
    execute format('create table breakwater.%I (like breakwater.finished_job including defaults including constraints)',
                   v_name);
    execute format('alter table breakwater.finished_job attach partition breakwater.%I for values from (%L) to (%L)',
                   v_name, p_day || ' 00:00:00+00', (p_day + 1) || ' 00:00:00+00');
end
$$;

-- Makes sure that the history has a partition for this transaction. Nearly always the leader has added it long ago.
create function breakwater.prepare_history() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform breakwater.add_history_day((now() at time zone 'UTC')::date);
end
$$;

-- Adds the partitions of today and of the next two days if some kind writes its history.
create function breakwater.add_history_days() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from breakwater.handler h where h.writes_history) then
        perform breakwater.add_history_day((now() at time zone 'UTC')::date + n) from generate_series(0, 2) n;
    end if;
end
$$;

-- Drops days that are older than the longest `keep` of all kinds, the oldest first, at most p_limit. Returns how many.
--
-- Locks: the day, and then for a moment the whole history. It waits a tenth of a second at most for each, so that
-- settles, which wait behind it, are not held up by a session that reads the history for hours. In that case it drops
-- nothing, and the leader tries again later.
create function breakwater.drop_history(p_limit integer) returns integer
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '100ms'
as $$
declare
    v_until timestamptz := now() - (select max(h.history_keep) from breakwater.handler h);
    v_name  text;
    v_count integer := 0;
begin
    for v_name in
        select c.relname
          from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where i.inhparent = 'breakwater.finished_job'::regclass and c.relname ~ '^finished_job_[0-9]{8}$'
           and (to_date(right(c.relname, 8), 'YYYYMMDD') + 1)::timestamp at time zone 'UTC' <= v_until
         order by c.relname
         limit p_limit
    loop
        execute format('lock table breakwater.%I in access exclusive mode', v_name);
        lock table only breakwater.finished_job in access exclusive mode;
        execute format('drop table breakwater.%I', v_name);
        v_count := v_count + 1;
    end loop;
    return v_count;
exception when lock_not_available then
    return 0;
end
$$;

-- The row of the history for one job that has ended; no row if its kind has no history. p_attempt is the number of
-- counted runs, and p_claimed_at and p_worker are those of its last run, null if it ended while it waited. p_errors and
-- p_id replace those of the job.
--
-- It has no settings of its own, so that the planner inlines it.
create function breakwater.finished_row(
    p_job breakwater.job, p_outcome text, p_attempt integer, p_reason text default null, p_result jsonb default null,
    p_claimed_at timestamptz default null, p_worker bigint default null, p_errors jsonb default null,
    p_id bigint default null
) returns setof breakwater.finished_job
language sql stable
as $$
    select coalesce(p_id, (p_job).id), (p_job).kind, (p_job).queue, (p_job).priority, p_outcome, p_reason, p_attempt,
           nullif(breakwater.key_of((p_job).payload, h.history_key), ''), (p_job).unique_key, (p_job).enqueued_at,
           (p_job).ready_at, p_claimed_at, now(), p_worker,
           (select w.name from breakwater.worker w where w.id = p_worker), (p_job).traceparent,
           coalesce(p_errors, (p_job).errors), p_result, case when h.history_payload then (p_job).payload end
      from breakwater.handler h
     where h.kind = (p_job).kind and h.writes_history
$$;

-- Deletes succeeded jobs as delete_done does, and writes those to the history whose kind has one, in one statement.
-- Returns false and changes nothing in the same cases.
--
-- The settings allow only plans that find rows by location, and join the rows with the arrays by hashing.
create function breakwater.finish_done(p_worker bigint, p_ids bigint[], p_leases bigint[], p_tuples tid[])
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set jit = off set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_indexscan = off set enable_bitmapscan = off set enable_nestloop = off
set enable_hashjoin = on
as $$
declare
    v_lease   bigint := (select min(l) from unnest(p_leases) l);
    v_leases  bigint[];
    v_times   timestamptz[];
    v_deleted integer;
begin
    if not breakwater.are_claims_of(p_worker, p_leases) then
        return false;
    end if;
    select c.leases, c.times into v_leases, v_times from breakwater.claim_times(p_leases) c;
    perform breakwater.prepare_history();
    with gone as (
        -- As in delete_done.
        delete from breakwater.job j
         where j.ctid = any (p_tuples) and j.lease < v_lease
           and case when j.id in (select g.id from unnest(p_ids) g(id)) then true end
        returning j.id, j as job
    ), written as (
        insert into breakwater.finished_job
        select f.*
          from gone g
          join unnest(p_ids, p_leases) d(id, lease) on d.id = g.id
          join unnest(v_leases, v_times) t(lease, claimed_at) on t.lease = d.lease
         cross join lateral breakwater.finished_row(
                    g.job, 'succeeded', (g.job).attempt + 1, p_claimed_at => t.claimed_at, p_worker => p_worker) f
    )
    select count(*) into v_deleted from gone;
    if v_deleted < cardinality(p_ids) then
        raise exception using errcode = 'BW004', message = 'a job has moved';
    end if;
    return true;
exception when sqlstate 'BW004' then
    return false;
end
$$;

-- The times of some claims.
create function breakwater.claim_times(p_leases bigint[], out leases bigint[], out times timestamptz[])
language plpgsql stable set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
begin
    select array_agg(c.lease), array_agg(c.claimed_at)
      into leases, times
      from (select distinct l from unnest(p_leases) l) g(lease) join breakwater.claim c on c.lease = g.lease;
end
$$;
