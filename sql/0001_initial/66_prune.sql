-- Pruning: rows that are not needed any more are deleted, in bounded portions.

-- Deletes claims whose jobs have all ended and that are not their lane's newest any more. Claims and settles delete
-- these, except for claims that were superseded at the very moment when they ended. Nearly all of those are among the
-- latest. All claims are examined only occasionally, because that takes long while another session holds a snapshot.
create function breakwater.prune_claims(p_all boolean) returns void
language sql set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
    delete from breakwater.claim c
     where c.lease > case when p_all then 0 else (select l.last_value - 20000 from breakwater.lease l) end
       and c.jobs = '{}' and c.lane is not null
       and exists (select from breakwater.claim n
                    where n.lane = c.lane and (n.last, n.lease) > (c.last, c.lease))
$$;

-- Whether a tally is part of a streak of failures that may still open its circuit, however long ago it began.
create function breakwater.is_in_streak(p_tally breakwater.tally) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select p_tally.trailing_failures > 0
       and exists (select from breakwater.circuit c
                    where c.kind = p_tally.kind and c.key = p_tally.key and c.generation = p_tally.generation
                      and c.state = 'closed'
                      and (breakwater.policy_of(c.kind, c.key)).consecutive_failures is not null)
       and not exists (select from breakwater.tally s
                        where s.kind = p_tally.kind and s.key = p_tally.key and s.slot > p_tally.slot
                          and s.generation = p_tally.generation and s.last_success_at is not null)
$$;

-- Deletes single calls beyond the newest 10,000 of a circuit, because no window is longer.
create function breakwater.prune_recent_calls(p_limit integer) returns void
language sql set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off set enable_bitmapscan = off
as $$
    -- It skips from circuit to circuit along the primary key, without reading the rows between.
    with recursive one as (
        (select r.kind, r.key from breakwater.recent_call r order by r.kind, r.key limit 1)
        union all
        select n.kind, n.key
          from one o
         cross join lateral (
               select r.kind, r.key from breakwater.recent_call r
                where (r.kind, r.key) > (o.kind, o.key) order by r.kind, r.key limit 1) n
    )
    delete from breakwater.recent_call r
     where r.ctid = any (array(
           select d.ctid
             from one o
            cross join lateral (
                  select c.ctid from breakwater.recent_call c
                   where c.kind = o.kind and c.key = o.key
                   order by c.generation desc, c.id desc
                  offset 10000 limit p_limit) d
            limit p_limit))
$$;

-- Deletes old tallies, failures, and single calls that are in no window any more.
create function breakwater.prune_calls(p_limit integer) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
    delete from breakwater.tally t where t.ctid = any (array(
        select o.ctid from breakwater.tally o
         where o.slot < breakwater.clock() - (
               select greatest(interval '2 hours', 2 * max(h.circuit_window)) from breakwater.handler h)
           and not breakwater.is_in_streak(o)
         limit p_limit for update skip locked));
    delete from breakwater.failure f where f.id = any (array(
        select o.id from breakwater.failure o
         where o.at < breakwater.clock() - (
               select greatest(interval '2 hours', 2 * max(h.circuit_window)) from breakwater.handler h)
         order by o.at limit p_limit for update skip locked));
    select breakwater.prune_recent_calls(p_limit) where random() < 0.02;
$$;

-- Deletes expired results, and outcomes that are too old for any subscriber.
create function breakwater.prune_results(p_limit integer) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
    delete from breakwater.result r where r.ctid = any (array(
        select o.ctid from breakwater.result o where o.expires_at < now() limit p_limit for update skip locked));
    select breakwater.forget_outcomes(p_limit);
$$;

-- Deletes old probes, and the circuits of keys that have been idle for an hour.
create function breakwater.prune_circuits(p_limit integer) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
    delete from breakwater.probe p where p.expires_at < breakwater.clock() - interval '1 hour';
    -- Only the oldest rows are read, and not all those of the last day.
    delete from breakwater.probe_result r where r.id = any (array(
        select o.id from (select p.id, p.at from breakwater.probe_result p order by p.id limit p_limit) o
         where o.at < breakwater.clock() - interval '1 day'));
    delete from breakwater.circuit c
     where c.key <> '' and c.kind <> '*' and c.state = 'closed' and c.override is null
       and c.since < breakwater.clock() - interval '1 hour'
       and not exists (select from breakwater.tally t
                        where t.kind = c.kind and t.key = c.key and t.slot > breakwater.clock() - interval '1 hour')
       and not exists (select from breakwater.job j where j.kind = c.kind and j.parked = c.key);
$$;

-- Deletes the suspensions and sleepers of workers that do not exist any more, claims that have ended, and absences that
-- no longer count.
create function breakwater.prune_workers() returns void
language sql set search_path = pg_catalog, pg_temp
as $$
    delete from breakwater.suspension s where not exists (select from breakwater.worker w where w.id = s.worker);
    delete from breakwater.sleeper s where not exists (select from breakwater.worker w where w.id = s.worker);
    delete from breakwater.absence a
     where a.ended_at < (select min(w.beat_at) from breakwater.worker w) and a.ended_at < now() - interval '1 day';
    select breakwater.prune_claims(random() < 0.001);
$$;

-- Deletes history and imports beyond 90 days, rates beyond two days, and incidents and audit records beyond a year.
create function breakwater.prune_history(p_limit integer) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
    delete from breakwater.circuit_transition t where t.at < now() - interval '90 days';
    delete from breakwater.lost_worker l where l.lost_at < now() - interval '90 days';
    delete from breakwater.import i where i.updated_at < now() - interval '90 days';
    delete from breakwater.rate r where r.minute < now() - interval '2 days';
    select breakwater.prune_incidents(p_limit);
    delete from breakwater.audit a where a.at < now() - interval '1 year';
$$;
