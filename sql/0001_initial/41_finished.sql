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

-- Deletes succeeded jobs as delete_done does, and writes those to the history whose kind has one. Returns false and
-- changes nothing in the same cases.
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
    v_name    text := (select w.name from breakwater.worker w where w.id = p_worker);
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
        returning j.id, j.kind, j.queue, j.priority, j.attempt, j.unique_key, j.enqueued_at, j.ready_at, j.traceparent,
                  j.errors, j.payload
    ), written as (
        insert into breakwater.finished_job (
            id, kind, queue, priority, outcome, attempt, key, unique_key, enqueued_at, ready_at, claimed_at,
            finished_at, worker, worker_name, traceparent, errors, payload)
        select g.id, g.kind, g.queue, g.priority, 'succeeded', g.attempt + 1,
               nullif(breakwater.key_of(g.payload, h.history_key), ''), g.unique_key, g.enqueued_at, g.ready_at,
               t.claimed_at, now(), p_worker, v_name, g.traceparent, g.errors,
               case when h.history_payload then g.payload end
          from gone g
          join breakwater.handler h on h.kind = g.kind and h.writes_history
          join unnest(p_ids, p_leases) d(id, lease) on d.id = g.id
          join unnest(v_leases, v_times) t(lease, claimed_at) on t.lease = d.lease
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
language sql stable set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
    select array_agg(c.lease), array_agg(c.claimed_at)
      from (select distinct l from unnest(p_leases) l) g(lease) join breakwater.claim c on c.lease = g.lease
$$;
