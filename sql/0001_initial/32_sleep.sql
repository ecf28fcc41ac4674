-- Sleeping: which workers are to be told of an insert.

-- Notes that a worker sleeps, so that inserts of these kinds wake it. It must claim once more before it sleeps.
create function breakwater.sleep(p_worker bigint, p_kinds text[]) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$
    insert into breakwater.sleeper as s (worker, kinds) values (p_worker, p_kinds)
    on conflict (worker) do update set kinds = excluded.kinds, attended = '{}', until = null
     where s.kinds <> excluded.kinds or s.attended <> '{}'
$$;

-- Notes that a worker looks for jobs of some kinds in its queues by itself, for so many seconds, and that inserts of the
-- other kinds wake it.
create function breakwater.attend(
    p_worker bigint, p_queues text[], p_kinds text[], p_attended text[], p_seconds double precision
) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$
    insert into breakwater.sleeper (worker, queues, kinds, attended, until)
    values (p_worker, p_queues, p_kinds, p_attended, clock_timestamp() + make_interval(secs => p_seconds))
    on conflict (worker) do update
       set queues = excluded.queues, kinds = excluded.kinds, attended = excluded.attended, until = excluded.until
$$;

-- Notes that a worker is too busy to need waking, or gone. Whoever sleeps hears of the kinds that it attended.
create function breakwater.awake(p_worker bigint) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_attended text[];
begin
    delete from breakwater.sleeper s where s.worker = p_worker returning s.attended into v_attended;
    if v_attended <> '{}' then
        perform breakwater.wake(v_attended);
    end if;
end
$$;
