-- Sleeping workers, which inserts must notify.

-- Records that a worker sleeps whose row has been written. From now on, inserts search for sleeping workers.
--
-- Locks: breakwater.sleeper_lock, shared, until the transaction ends, so that forget_sleepers() sees the row or has run
-- before.
create function breakwater.record_sleeper() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    lock table breakwater.sleeper_lock in row exclusive mode;
    if pg_sequence_last_value('breakwater.anyone_asleep') is null then
        perform setval('breakwater.anyone_asleep', 1);
    end if;
end
$$;

-- Records that a worker sleeps, so that inserts of these kinds notify it. The worker must claim once more before it
-- sleeps.
create function breakwater.sleep(p_worker bigint, p_kinds text[]) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$
    insert into breakwater.sleeper as s (worker, kinds) values (p_worker, p_kinds)
    on conflict (worker) do update set kinds = excluded.kinds, polled = '{}', until = null
     where s.kinds <> excluded.kinds or s.polled <> '{}';
    select breakwater.record_sleeper() where p_kinds <> '{}'
$$;

-- Records that a worker polls some hot kinds in its queues for p_seconds seconds, and that inserts of the other kinds
-- notify it.
create function breakwater.poll_hot_kinds(
    p_worker bigint, p_queues text[], p_kinds text[], p_polled text[], p_seconds double precision
) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$
    insert into breakwater.sleeper (worker, queues, kinds, polled, until)
    values (p_worker, p_queues, p_kinds, p_polled, clock_timestamp() + make_interval(secs => p_seconds))
    on conflict (worker) do update
       set queues = excluded.queues, kinds = excluded.kinds, polled = excluded.polled, until = excluded.until;
    select breakwater.record_sleeper() where p_kinds <> '{}'
$$;

-- Records that a worker is too busy to be notified, or has left. Sleeping workers are notified of the hot kinds that it
-- polled.
create function breakwater.stop_sleeping(p_worker bigint) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_polled text[];
begin
    delete from breakwater.sleeper s where s.worker = p_worker returning s.polled into v_polled;
    if v_polled <> '{}' then
        perform breakwater.wake(v_polled);
    end if;
end
$$;

-- Records that no worker is asleep, if that is true, so that inserts need not search. If several workers leave at the
-- same time, the last one sees that the others have left. While a worker takes more than a second to go to sleep, this
-- does nothing.
--
-- Locks: breakwater.sleeper_lock, exclusively, until the transaction ends. This is the last lock that it waits for.
create function breakwater.forget_sleepers() returns void
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '1s'
as $$
begin
    if pg_sequence_last_value('breakwater.anyone_asleep') is null then
        return;
    end if;
    lock table breakwater.sleeper_lock in share row exclusive mode;
    if not exists (select from breakwater.sleeper s where s.kinds <> '{}') then
        perform setval('breakwater.anyone_asleep', 1, false);
    end if;
exception when lock_not_available then
    null;
end
$$;
