-- Outcomes: the ends of runs, which are reported as they happen, and only while a client subscribes (`worker tail`).
--
-- A finished job is deleted, so its outcome could not be read later. While there is a subscriber, the transaction that
-- ends a run also writes a line to breakwater.outcome. Without one this costs almost nothing, because each settle only
-- reads an empty table. This is a table and not a NOTIFY, because a NOTIFY takes a database-wide lock at commit, is
-- limited to 8000 bytes, and does not reach a client behind a pooler.

-- Whether there is a subscriber now.
create function breakwater.has_subscribers() returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (select from breakwater.tail_subscriber w where w.expires_at > now());
end
$$;

-- Reports runs that are about to be settled as successes. Of each queue and kind, 100 are reported one by one and the
-- others only as a number, so that a fast queue does not produce more lines than subscribers can read.
-- Locks: the jobs, so that it reports exactly those that settling then deletes.
create function breakwater.record_successes(p_worker bigint, p_ids bigint[], p_leases bigint[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off
as $$
begin
    if not breakwater.has_subscribers() then
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

-- Reports one run that did not succeed. Its job has already been updated, so the job's `lease` is that of the run.
-- p_attempt is the number of the counted run.
create function breakwater.record_run(
    p_id bigint, p_outcome text, p_worker bigint, p_attempt integer, p_name text, p_message text
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    if not breakwater.has_subscribers() then
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

-- Begins or renews a subscription, for 15 seconds from now. Returns the subscriber's number, which is a new one if a
-- crash of the server took the old one. Readers select from `breakwater.outcome` by transaction: those lines that were
-- not visible to the snapshot of their last query.
create function breakwater.subscribe(id bigint default null) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_id bigint;
begin
    update breakwater.tail_subscriber w set expires_at = now() + interval '15 seconds' where w.id = subscribe.id
    returning w.id into v_id;
    if v_id is null then
        insert into breakwater.tail_subscriber (expires_at) values (now() + interval '15 seconds') returning id into v_id;
    end if;
    perform breakwater.forget_outcomes(10000);
    return v_id;
end
$$;

-- Ends a subscription.
create function breakwater.unsubscribe(id bigint) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$ delete from breakwater.tail_subscriber w where w.id = unsubscribe.id $$;

-- Deletes up to p_limit lines older than a minute, and subscribers that expired more than a minute ago.
create function breakwater.forget_outcomes(p_limit integer) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
    delete from breakwater.tail_subscriber w where w.id = any (array(
        select o.id from breakwater.tail_subscriber o where o.expires_at < now() - interval '1 minute'
           for update skip locked));
    delete from breakwater.outcome o where o.id = any (array(
        select d.id from breakwater.outcome d where d.at < now() - interval '1 minute'
         order by d.id limit p_limit for update skip locked));
$$;
