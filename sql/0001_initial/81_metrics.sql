-- Metrics of the fleet as a whole. Every worker that serves metrics reports the same numbers, from one sample that all
-- workers share, so that a large fleet costs the database no more than a small one.

-- The numbers of the fleet, no older than p_max_age seconds unless another session is just taking a new sample.
--
-- However many jobs wait, it reads at most 10,000 of a lane, 50,000 in total, and then 100 of each further lane. A
-- count that reaches such a limit means "at least". Kinds for which no handler was ever registered, and queues from
-- which no worker claims, are called `other`, so that the number of names depends only on configurations.
--
-- Locks: the row of the last sample, by SKIP LOCKED.
create function breakwater.sample_fleet(p_max_age double precision) returns jsonb
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off
as $$
declare
    v_sample jsonb;
begin
    select s.sample into v_sample from breakwater.fleet_sample s
     where s.taken_at > clock_timestamp() - make_interval(secs => p_max_age);
    if found then
        return v_sample;
    end if;
    -- If the row already exists, nothing is inserted, because that would wait for a session that changes the row.
    if not exists (select from breakwater.fleet_sample) then
        insert into breakwater.fleet_sample (taken_at, sample) values ('-infinity', '{}') on conflict do nothing;
    end if;
    perform from breakwater.fleet_sample s for update skip locked;
    if not found then
        return (select nullif(s.sample, '{}') from breakwater.fleet_sample s);
    end if;
    v_sample := jsonb_build_object('sampled_at', extract(epoch from clock_timestamp()))
             || breakwater.sample_jobs() || breakwater.sample_circuits() || breakwater.sample_workers()
             || breakwater.sample_limits()
             || breakwater.sample_schedules();
    update breakwater.fleet_sample s set taken_at = clock_timestamp(), sample = v_sample;
    return v_sample;
end
$$;

-- Jobs and dead letters, counted in bounded portions. Ages are seconds since the oldest job of that state was due.
create function breakwater.sample_jobs() returns jsonb
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_lane    record;
    v_found   record;
    v_left    integer := 50000;
    v_lanes   jsonb := '[]';
    v_kinds   text[] := array(select h.kind from breakwater.handler h);
    v_queues  text[] := array(select distinct unnest(w.queues) from breakwater.worker w);
begin
    -- Configured lanes come first, so that a client that creates many kinds cannot displace them.
    for v_lane in
        select l.queue, l.kind, l.priority from breakwater.ready_lanes(100) l
         order by (l.queue = any (v_queues) and l.kind = any (v_kinds)) desc, l.queue, l.kind, l.priority
         limit 2000
    loop
        select count(*) as looked_at,
               count(*) filter (where not t.is_held) as ready,
               count(*) filter (where t.is_held) as running,
               min(t.ready_at) filter (where not t.is_held) as oldest_ready,
               min(t.ready_at) filter (where t.is_held) as oldest_running
          into v_found
          from (select j.id in (select h.job from breakwater.held h) as is_held, j.ready_at from breakwater.job j
                 where j.queue = v_lane.queue and j.kind = v_lane.kind and j.priority = v_lane.priority
                   and j.run_at is null
                 order by j.position
                 limit greatest(least(v_left, 10000), 100)) t;
        v_lanes := v_lanes
            || jsonb_build_object('queue', v_lane.queue, 'kind', v_lane.kind, 'state', 'ready',
                                  'jobs', v_found.ready, 'since', v_found.oldest_ready)
            || jsonb_build_object('queue', v_lane.queue, 'kind', v_lane.kind, 'state', 'running',
                                  'jobs', v_found.running, 'since', v_found.oldest_running);
        v_left := v_left - v_found.looked_at;
    end loop;

    return jsonb_build_object(
        'suspects', (select count(*) from (select from breakwater.job j where j.crashes >= 2 limit 10000) s),
        'jobs', (
            select jsonb_agg(to_jsonb(g)) from (
                select case when d.queue = any (v_queues) then d.queue else 'other' end as queue,
                       case when d.kind = any (v_kinds) then d.kind else 'other' end as kind, d.state,
                       sum(d.jobs) as jobs,
                       greatest(0, extract(epoch from clock_timestamp() - min(d.since))) as oldest
                  from (select l.queue, l.kind, l.state, l.jobs, l.since
                          from jsonb_to_recordset(v_lanes)
                               as l(queue text, kind text, state text, jobs bigint, since timestamptz)
                        union all
                        select f.queue, f.kind, f.state, count(*), min(f.run_at)
                          from (select w.queue, w.kind, w.run_at,
                                       case when w.has_run then 'retrying' else 'scheduled' end as state
                                  from breakwater.waiting_for_time(50000) w
                                 order by w.kind = any (v_kinds) desc, w.run_at
                                 limit 10000) f
                         group by f.queue, f.kind, f.state
                        union all
                        select p.queue, h.kind, 'parked', count(*), min(p.ready_at)
                          from breakwater.handler h
                         cross join lateral (
                               select j.queue, j.ready_at from breakwater.job j
                                where j.kind = h.kind and j.parked is not null
                                limit 10000) p
                         where h.key_path is not null
                         group by p.queue, h.kind
                        union all
                        -- Jobs that a rule holds back.
                        select p.queue, h.kind, 'parked', count(*), min(p.ready_at)
                          from breakwater.handler h
                         cross join lateral unnest(h.rules) r(rule)
                         cross join lateral (
                               select j.queue, j.ready_at from breakwater.job j
                                where j.kind = h.kind and j.rule = r.rule
                                  and j.id not in (select k.job from breakwater.held k)
                                limit 10000) p
                         group by p.queue, h.kind
                        union all
                        select w.queue, w.kind, 'dependent', count(*), min(w.ready_at)
                          from breakwater.waiting_for_jobs(10000) w
                         group by w.queue, w.kind
                        union all
                        select j.queue, j.kind, 'running', count(*), min(j.ready_at)
                          from breakwater.held k join breakwater.job j on j.id = k.job
                         where j.rule is not null
                         group by j.queue, j.kind) d
                 group by 1, 2, 3) g),
        'dead_letters', (
            select jsonb_agg(to_jsonb(g)) from (
                select k.kind, sum(c.jobs) as jobs
                  from (select h.kind from breakwater.handler h) k
                 cross join lateral (
                       select count(*) as jobs
                         from (select from breakwater.dead_letter d where d.kind = k.kind limit 10000) t) c
                 where c.jobs > 0
                 group by 1) g),
        'recent_dead_letters', (
            select jsonb_agg(to_jsonb(g)) from (
                select case when d.kind = any (v_kinds) then d.kind else 'other' end as kind, d.reason,
                       count(*) as jobs
                  from (select l.kind, l.reason from breakwater.dead_letter l
                         where l.died_at > now() - interval '5 minutes' limit 10000) d
                 group by 1, 2) g));
end
$$;

-- The limits, ordered keys and shares: at most a hundred.
create function breakwater.sample_limits() returns jsonb
language sql set search_path = pg_catalog, pg_temp
as $$
    select jsonb_build_object('limits', (
        select jsonb_agg(jsonb_build_object(
                   'name', r.name, 'type', r.type,
                   'running', (select coalesce(sum(h.weight), 0) from breakwater.held_under(breakwater.state_of_rule(r)) h),
                   'held_back', breakwater.held_back_by(r, breakwater.kinds_of_rule(r)),
                   'concurrency', case when r.type = 'adapt' then breakwater.adapted_concurrency(r) else r.concurrency end))
          from (select * from breakwater.flow_rule f order by f.name, f.type limit 100) r))
$$;

-- The circuits. There may be many circuits of keys, so they are counted by kind.
create function breakwater.sample_circuits() returns jsonb
language sql set search_path = pg_catalog, pg_temp
as $$
    with own as (
        select c.kind, c.key, breakwater.circuit_name(c.kind, c.key) as circuit, c.state
          from breakwater.circuit c
         where c.key = '' or c.kind = '*'
         limit 1000
    ), keyed as (
        select c.kind, c.state, count(*) as circuits
          from (select o.kind, o.state from breakwater.circuit o where o.key <> '' and o.kind <> '*' limit 10000) c
         group by c.kind, c.state
    )
    select jsonb_build_object(
        'circuits', (select jsonb_agg(jsonb_build_object('circuit', o.circuit, 'state', o.state)) from own o),
        'keyed_circuits', (select jsonb_agg(to_jsonb(k)) from keyed k),
        'waiting', (
            select jsonb_agg(to_jsonb(g)) from (
                select w.circuit, sum(w.jobs) as jobs
                  from (select o.circuit, t.jobs
                          from own o
                          join breakwater.handler h
                            on breakwater.is_circuit_of(o.kind, o.key, h.kind, h.shared_key, '')
                         cross join lateral (
                               select count(*) as jobs
                                 from (select from breakwater.job j
                                        where j.queue = any (array(select distinct unnest(w.queues)
                                                                     from breakwater.worker w))
                                          and j.kind = h.kind and j.run_at is null
                                          and j.id not in (select r.job from breakwater.held r)
                                        limit 10000) r) t
                         where o.state <> 'closed'
                        union all
                        select k.kind, t.jobs
                          from (select distinct y.kind from keyed y where y.state <> 'closed') k
                         cross join lateral (
                               select count(*) as jobs
                                 from (select from breakwater.job j
                                        where j.kind = k.kind and j.parked is not null limit 10000) p) t) w
                 group by w.circuit) g),
        'probes', (
            select jsonb_agg(to_jsonb(g)) from (
                select case when p.kind = '*' then p.key else p.kind end as circuit, count(*) as probes
                  from breakwater.probe p
                 where p.expires_at > breakwater.clock()
                 group by 1) g),
        'suspended_workers', (
            select jsonb_agg(to_jsonb(g)) from (
                select case when s.kind = '*' then s.key else s.kind end as circuit, count(distinct s.worker) as workers
                  from breakwater.suspension s
                 where s.times > 0
                 group by 1) g))
$$;

-- Workers, their slots, and pauses.
create function breakwater.sample_workers() returns jsonb
language sql set search_path = pg_catalog, pg_temp
as $$
    select jsonb_build_object(
        'workers', jsonb_build_object(
            'running', count(*) filter (where w.alive and w.state = 'running'),
            'draining', count(*) filter (where w.alive and w.state = 'draining'),
            'silent', count(*) filter (where not w.alive)),
        'slots', coalesce(sum(w.concurrency) filter (where w.alive and w.state = 'running'), 0),
        'busy_slots', coalesce(sum(w.running) filter (where w.alive), 0),
        'pauses', jsonb_build_object(
            'queue', (select count(*) from breakwater.pause p where p.scope = 'queue'),
            'kind', (select count(*) from breakwater.pause p where p.scope = 'kind')))
      from breakwater.worker_status w
$$;

-- Schedules: how many there are by state, and for the first 200 by name, how late the last slot's job was or how long
-- the next slot has been due, and what became of their slots.
create function breakwater.sample_schedules() returns jsonb
language sql set search_path = pg_catalog, pg_temp
as $$
    select jsonb_build_object(
        'schedules', jsonb_build_object(
            'active', count(*) filter (where s.paused_at is null and s.error is null),
            'paused', count(*) filter (where s.paused_at is not null),
            'failing', count(*) filter (where s.paused_at is null and s.error is not null)),
        'schedule_slots', (
            select jsonb_agg(to_jsonb(g)) from (
                select o.name as schedule,
                       case when o.paused_at is null and o.next_at < breakwater.clock()
                            then extract(epoch from breakwater.clock() - o.next_at)
                            else coalesce(extract(epoch from o.last_at - o.last_slot), 0) end as lateness,
                       o.enqueued, o.skipped, o.missed_slots as missed
                  from breakwater.schedule o order by o.name limit 200) g))
      from breakwater.schedule s
$$;

-- The transitions after an id in the history, the oldest first, at most 5,000. Circuits of keys appear under their
-- kind. With null, it returns no transition, but a row with the highest id, from which to continue.
create function breakwater.transitions_after(p_id bigint)
returns table (id bigint, circuit text, from_state text, to_state text)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    (select t.id, case when t.kind = '*' then t.key else t.kind end, t.from_state, t.to_state
       from breakwater.circuit_transition t
      where t.id > p_id
      order by t.id
      limit 5000)
    union all
    select coalesce(max(t.id), 0), null, null, null from breakwater.circuit_transition t where p_id is null having p_id is null
$$;
