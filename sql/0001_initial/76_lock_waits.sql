-- Waits for locks: the sessions that block others.

-- The sessions that block others that use Breakwater's tables, and the sessions that have locked a whole table: one row
-- for each session at the head of a queue, the one with the longest queue first. `words` describes the session and what
-- it does, `waiting` counts the sessions behind it, and `longest` is how long the first of them has waited.
--
-- A statement such as ALTER TABLE that itself waits for an open transaction blocks all later statements. In that case
-- the open transaction is named. Facts that the server shows only to its administrators are left out.
--
-- It reads the server's table of locks, not Breakwater's tables, so it works while they are locked.
create function breakwater.lock_waits()
returns table (pid integer, waiting bigint, longest interval, words text)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    with recursive mine as materialized (
        select l.pid, l.granted and l.mode = 'AccessExclusiveLock' as has_table
          from pg_locks l
         where l.pid is not null and l.locktype = 'relation'
           and l.database = (select d.oid from pg_database d where d.datname = current_database())
           and l.relation in (select c.oid from pg_class c where c.relnamespace = 'breakwater'::regnamespace)
    ), waiter as materialized (
        -- This includes sessions that wait for a row or for a unique key: they wait for its transaction, and hold a
        -- table lock.
        select l.pid, min(l.waitstart) as since
          from pg_locks l
         where not l.granted and l.pid <> pg_backend_pid() and l.pid in (select m.pid from mine m)
         group by l.pid
    ), queue as (
        select w.pid as waiter, w.since, b.pid, 1 as depth
          from waiter w cross join lateral unnest(pg_blocking_pids(w.pid)) b(pid)
        union
        select q.waiter, q.since, b.pid, q.depth + 1
          from queue q cross join lateral unnest(pg_blocking_pids(q.pid)) b(pid)
         where q.depth < 20
    ), head as (
        select q.pid, count(distinct q.waiter) as waiting, clock_timestamp() - min(q.since) as longest
          from (select r.waiter, r.since, r.pid from queue r
                union all
                select null, null, m.pid from mine m where m.has_table and m.pid <> pg_backend_pid()) q
         where cardinality(pg_blocking_pids(q.pid)) = 0
         group by q.pid
    )
    select h.pid, h.waiting, h.longest,
           case when h.pid = 0 then 'a prepared transaction (see pg_prepared_xacts: COMMIT PREPARED or ROLLBACK PREPARED it)'
                else format('session %s of the user %s%s%s', h.pid, coalesce(a.usename, '?'),
                            coalesce(' (' || nullif(a.application_name, '') || ')', ''),
                            coalesce(', ' || a.state || ' for '
                                     || date_trunc('second', clock_timestamp() - a.state_change), '')) end
      from head h
      left join pg_stat_activity a on a.pid = h.pid
     order by h.waiting desc, h.pid
     limit 20
$$;
