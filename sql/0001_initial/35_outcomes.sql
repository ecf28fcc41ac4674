-- Outcomes, for whoever follows them: how runs end, told as it happens, and only while somebody watches.
--
-- A finished job is deleted, so nothing that stays would tell how it ended. While there is a watcher, what ends a run
-- also writes a line here, in its own transaction. Nobody pays for it otherwise: settling looks into an empty table, once
-- for all that it settles. It is a table and not a NOTIFY because a NOTIFY takes a database-wide lock at commit, holds 8000
-- bytes, and is lost to whoever connects through a pooler.

-- Who watches, and until when. Lost in a crash, and written again by the next renewal.
--
-- The sequences are tables' own in all but name: that of an unlogged table's identity would be unlogged too, and might not
-- exist on a standby that is promoted.
create sequence breakwater.watcher_id;
create unlogged table breakwater.watcher (
    id         bigint primary key default nextval('breakwater.watcher_id'),
    expires_at timestamptz not null
);

-- Lines of the last minute or so. No payloads.
create sequence breakwater.outcome_id;
create unlogged table breakwater.outcome (
    id           bigint primary key default nextval('breakwater.outcome_id'),
    -- Which transaction told it: readers go by what has become visible since they last looked.
    xid          xid8 not null default pg_current_xact_id(),
    at           timestamptz not null default clock_timestamp(),
    -- succeeded, failed, unavailable, throttled, unable, snoozed, released, rescued or dead_letter.
    outcome      text not null,
    queue        text collate "C" not null,
    kind         text collate "C" not null,
    -- null: a number of jobs that are not told one by one.
    job          bigint,
    jobs         integer not null default 1,
    attempt      integer,
    max_attempts integer,
    worker       bigint,
    -- From claim to settling, where the claim is known.
    took         interval,
    -- Why it is a dead letter.
    reason       text,
    name         text,
    message      text,
    -- When it runs again; null: as soon as a worker is free.
    run_at       timestamptz
);
create index outcome_by_xid on breakwater.outcome (xid);

-- Whether somebody watches now.
create function breakwater.is_watched() returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$ select exists (select from breakwater.watcher w where w.expires_at > now()) $$;

-- Tells of runs that are about to be settled as successes: 100 of each kind one by one, and of the others how many they
-- are, so that a fast queue costs its watchers, and itself, no more than they can read.
-- Locks: the jobs, so that exactly those are told of which settling then deletes.
create function breakwater.tell_successes(p_worker bigint, p_ids bigint[], p_leases bigint[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off
as $$
begin
    if not breakwater.is_watched() then
        return;
    end if;
    with ending as (
        select j.id, j.queue, j.kind, j.attempt + 1 as attempt, j.max_attempts, c.claimed_at
          from unnest(p_ids, p_leases) g(id, lease)
          join breakwater.claim c on c.lease = g.lease and c.worker = p_worker
          join breakwater.job j on j.id = g.id and j.lease < g.lease
           for update of j
    ), ranked as (
        select e.*, row_number() over (partition by e.queue, e.kind order by e.id) as place from ending e
    )
    insert into breakwater.outcome (outcome, queue, kind, job, jobs, attempt, max_attempts, worker, took)
    select 'succeeded', r.queue, r.kind, r.id, 1, r.attempt, coalesce(r.max_attempts, h.max_attempts), p_worker,
           clock_timestamp() - r.claimed_at
      from ranked r
      left join breakwater.handler h on h.kind = r.kind
     where r.place <= 100
    union all
    select 'succeeded', r.queue, r.kind, null, count(*), null, null, p_worker, null
      from ranked r where r.place > 100 group by r.queue, r.kind;
end
$$;

-- Tells of one run that ended otherwise, once its job is as it is to be: its `lease` is that of the run. p_attempt is
-- which counted run it was.
create function breakwater.tell_run(
    p_id bigint, p_outcome text, p_worker bigint, p_attempt integer, p_name text, p_message text
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if not breakwater.is_watched() then
        return;
    end if;
    insert into breakwater.outcome (
        outcome, queue, kind, job, attempt, max_attempts, worker, took, name, message, run_at)
    select p_outcome, j.queue, j.kind, j.id, p_attempt, coalesce(j.max_attempts, h.max_attempts), p_worker,
           clock_timestamp() - c.claimed_at, left(p_name, 200), left(p_message, 500), j.run_at
      from breakwater.job j
      left join breakwater.handler h on h.kind = j.kind
      left join breakwater.claim c on c.lease = j.lease
     where j.id = p_id;
end
$$;

-- Begins to watch, or goes on: for a quarter of a minute from now. Returns the watcher's number, which is another one
-- if a crash of the server took the old. Readers take `breakwater.outcome` by transactions: what was not visible to the
-- snapshot of their last look.
create function breakwater.watch(id bigint default null) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_id bigint;
begin
    update breakwater.watcher w set expires_at = now() + interval '15 seconds' where w.id = watch.id
    returning w.id into v_id;
    if v_id is null then
        insert into breakwater.watcher (expires_at) values (now() + interval '15 seconds') returning id into v_id;
    end if;
    perform breakwater.forget_outcomes(10000);
    return v_id;
end
$$;

-- Ends watching.
create function breakwater.unwatch(id bigint) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$ delete from breakwater.watcher w where w.id = unwatch.id $$;

-- Deletes lines older than a minute, at most so many, and watchers that were not heard of for as long.
create function breakwater.forget_outcomes(p_limit integer) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
    delete from breakwater.watcher w where w.id = any (array(
        select o.id from breakwater.watcher o where o.expires_at < now() - interval '1 minute'
           for update skip locked));
    delete from breakwater.outcome o where o.id = any (array(
        select d.id from breakwater.outcome d where d.at < now() - interval '1 minute'
         order by d.id limit p_limit for update skip locked));
$$;
