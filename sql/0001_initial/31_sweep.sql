-- Sweeping: what a claim from a cursor would not find, and how far up nothing can be found any more.

-- Finds, for each lane, the first ready position above its floor. It locks nothing: a job that another worker is
-- claiming right now still counts as ready, so a claim that rolls back is not lost.
--
-- `places` are the lanes' indexes in the arrays, from 1; lanes with nothing ready are left out. `highest` is the highest
-- position drawn so far, and `timeline` that of the write-ahead log, null on a standby: they tell a worker that is
-- connected through a pooler when the database is another than before, and cursors and floors mean nothing any more.
create function breakwater.sweep(
    p_queues text[], p_kinds text[], p_priorities smallint[], p_floors bigint[],
    out places integer[], out first_ready bigint[], out highest bigint, out timeline bigint
)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off
as $$
begin
    select p.last_value into highest from breakwater.job_position p;
    if not pg_is_in_recovery() then
        timeline := ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint;
    end if;
    select coalesce(array_agg(l.place), '{}'), coalesce(array_agg(f.position), '{}') into places, first_ready
      from unnest(p_queues, p_kinds, p_priorities, p_floors) with ordinality
           as l(queue, kind, priority, floor, place)
     cross join lateral (
           select j.position
             from breakwater.job j
            where j.queue = l.queue collate "C" and j.kind = l.kind collate "C"
              and j.priority = l.priority and j.position > l.floor
              and j.run_at is null and j.worker is null
            order by j.position
            limit 1) f;
end
$$;

-- Helps a worker to prove a floor: below which position can no job appear any more?
--
-- A transaction draws positions only while it holds a row-exclusive lock on `job`. So note the highest position drawn,
-- then who holds such a lock (in this order); once all of those have ended, nothing can appear at or below it.
--
-- Takes the holders noted last time; returns whether all of them have ended, and a new note.
create function breakwater.horizon(p_holders text[], out passed boolean, out highest bigint, out holders text[])
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    select p.last_value into highest from breakwater.job_position p;
    select coalesce(array_agg(distinct k.virtualtransaction), '{}') into holders
      from pg_locks k
     where k.locktype = 'relation' and k.relation = 'breakwater.job'::regclass
       and k.database = (select d.oid from pg_database d where d.datname = current_database())
       and k.mode not in ('AccessShareLock', 'RowShareLock')
       and k.pid is distinct from pg_backend_pid();
    -- A prepared transaction is known by another name than before it was prepared: while there is one, nothing is proven.
    passed := not (holders && p_holders) and not exists (select from unnest(holders) h where h like '-1/%');
end
$$;

-- The floors that others have noted for these lanes: those with one, by their place in the arrays.
create function breakwater.floors(
    p_queues text[], p_kinds text[], p_priorities smallint[], out places integer[], out floors bigint[]
)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(l.place), '{}'), coalesce(array_agg(f.floor), '{}')
      from unnest(p_queues, p_kinds, p_priorities) with ordinality l(queue, kind, priority, place)
      join breakwater.floor f on f.queue = l.queue collate "C" and f.kind = l.kind collate "C" and f.priority = l.priority
     -- One above what was ever drawn is of another time.
     where f.floor <= (select p.last_value from breakwater.job_position p)
$$;

-- Notes floors that a worker has proven. A floor is a fact about its lane, whoever finds it; it never goes down.
--
-- Locks: the rows of `floor`, in the order of the lanes.
create function breakwater.note_floors(
    p_queues text[], p_kinds text[], p_priorities smallint[], p_floors bigint[]
) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$
    delete from breakwater.floor f where f.floor > (select p.last_value from breakwater.job_position p);
    insert into breakwater.floor as f (queue, kind, priority, floor)
    select l.queue, l.kind, l.priority, l.floor
      from unnest(p_queues, p_kinds, p_priorities, p_floors) l(queue, kind, priority, floor)
     order by l.queue collate "C", l.kind collate "C", l.priority
    on conflict (queue, kind, priority) do update set floor = excluded.floor where f.floor < excluded.floor
$$;
