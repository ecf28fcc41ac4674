-- The need for workers, for an autoscaler.

-- The jobs of each queue and kind for workers, and the jobs that are held back. `ready` counts jobs that another worker
-- could start now. Jobs that are due but not yet promoted count as ready too, because there may be no worker left to
-- promote them. `running` counts running jobs. `held` counts jobs that wait for something that more workers would not
-- change: an open circuit, a pause, a limit or the order of its key, or a kind that no worker ever handled. If a
-- circuit may be probed, as many of its jobs count as ready as it may have probes, so that a fleet that was scaled to
-- zero during an outage is scaled up to probe it. Jobs that are not due are not counted.
--
-- No number counts more than `p_cap` jobs of a queue and a kind, which bounds the cost while millions wait. Of the
-- lanes from which no worker ever claimed, it reads the first thousand. Locks nothing.
create function breakwater.workload(p_cap integer default 10000)
returns table (queue text, kind text, ready bigint, running bigint, held bigint, held_by text)
language sql stable security definer
set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_bitmapscan = off
as $$
    with lane as (
        select distinct l.queue, l.kind from breakwater.ready_lanes(1000) l
    ), waiting as (
        -- Running jobs were claimed from the lane's start, so they are among the first.
        select l.queue, l.kind, '' as key, c.waits, c.runs
          from lane l
         cross join lateral (
               select count(*) filter (where not f.is_held) as waits, count(*) filter (where f.is_held) as runs
                 from (select j.id in (select h.job from breakwater.held h) as is_held from breakwater.job j
                        where j.queue = l.queue and j.kind = l.kind and j.run_at is null
                        order by j.priority, j.position limit p_cap) f) c
        union all
        select d.queue, d.kind, '', count(*), 0
          from breakwater.waiting_for_time(p_cap) d
         where d.run_at <= now()
         group by d.queue, d.kind
        union all
        -- Jobs that are parked for the circuits of keys.
        select p.queue, p.kind, p.key, count(*), 0
          from breakwater.circuit c
         cross join lateral (select j.queue, j.kind, j.parked as key from breakwater.job j
                              where j.kind = c.kind and j.parked = c.key limit p_cap) p
         where c.key <> '' and c.kind <> '*'
         group by p.queue, p.kind, p.key
    ), held_back as (
        -- Jobs that a rule holds back. Those of fair shares could run at once.
        select s.queue, s.kind, s.type, count(*) as waits
          from breakwater.handler h
         cross join lateral unnest(h.rules) u(rule)
          join breakwater.flow_rule r on r.id = u.rule
         cross join lateral (select j.queue, j.kind, r.type from breakwater.job j
                              where j.kind = h.kind and j.rule = r.id and j.id not in (select k.job from breakwater.held k)
                              limit p_cap) s
         group by s.queue, s.kind, s.type
    ), running_outside as (
        select j.queue, j.kind, count(*) as runs
          from breakwater.held k join breakwater.job j on j.id = k.job
         where j.rule is not null
         group by j.queue, j.kind
    ), judged as (
        select w.*,
               case when h.kind is null then 'no_handler'
                    when p.name is not null then 'paused'
                    when c.state = 'open' and coalesce(c.retry_at > breakwater.clock(), true) then 'circuit_open'
                    when c.state in ('open', 'half_open') then 'circuit_half_open' end as held_by,
               coalesce(r.probes, 1) as probes, h.rules is not null as has_rules
          from (select * from waiting
                union all
                select b.queue, b.kind, '', b.waits, 0 from held_back b where b.type = 'share') w
          left join breakwater.handler h on h.kind = w.kind
          left join breakwater.circuit c on breakwater.is_circuit_of(
                    c.kind, c.key, w.kind, case when w.key = '' then h.shared_key end, w.key)
          left join lateral breakwater.policy_of(c.kind, c.key) r on true
          left join lateral (select p.name from breakwater.pause p
                              where breakwater.is_pause_of(p.scope, p.name, w.queue, w.kind)
                              limit 1) p on true
    ), shared as (
        select j.*,
               case when j.held_by is null
                    then least(j.waits, case when j.has_rules then breakwater.starts_left(j.kind) end)
                    when j.held_by = 'circuit_half_open' then least(j.waits, j.probes) else 0 end as counts
          from judged j
    )
    select s.queue, s.kind, least(sum(s.counts), p_cap)::bigint, sum(s.runs)::bigint,
           least(sum(s.waits - s.counts), p_cap)::bigint, min(s.held_by)
      from (select s.queue, s.kind, s.counts, s.runs, s.waits,
                   coalesce(s.held_by, case when s.counts < s.waits then 'limit' end) as held_by
              from shared s
            union all
            select b.queue, b.kind, 0, 0, b.waits, case b.type when 'order' then 'order' else 'limit' end
              from held_back b where b.type <> 'share'
            union all
            select o.queue, o.kind, 0, o.runs, 0, null from running_outside o) s
     group by s.queue, s.kind
$$;

-- The same with numbers up to 10,000, for clients that can only read tables and views:
-- SELECT coalesce(sum(ready + running), 0) FROM breakwater.scaling WHERE queue = 'default'
create view breakwater.scaling as
select b.queue, b.kind, b.ready, b.running, b.held, b.held_by from breakwater.workload() b;
