-- Views for users: how many jobs there are, how old they are, and why a job is not running.

-- Depth and age of every queue and kind that has jobs.
create view breakwater.depth as
select j.queue, j.kind,
       count(*) filter (where j.run_at is null and r.job is null) as ready,
       count(*) filter (where r.job is not null) as running,
       count(*) filter (where j.run_at is not null and num_nonnulls(j.parked, j.rule) = 0 and r.job is null
                              and d.job is null and not breakwater.has_run(j.attempt, j.errors)) as scheduled,
       count(*) filter (where j.run_at is not null and num_nonnulls(j.parked, j.rule) = 0 and r.job is null
                              and d.job is null and breakwater.has_run(j.attempt, j.errors)) as retrying,
       -- Those that wait for other jobs.
       count(*) filter (where d.job is not null and r.job is null) as dependent,
       -- Those that wait outside their lanes for the circuit of a key, or because a rule holds them back.
       count(*) filter (where num_nonnulls(j.parked, j.rule) > 0 and r.job is null) as parked,
       now() - min(j.ready_at) filter (where j.run_at is null and r.job is null) as oldest_ready,
       min(j.run_at) filter (where j.run_at < 'infinity') as next_due,
       exists (select from breakwater.pause p
                where breakwater.is_pause_of(p.scope, p.name, j.queue, j.kind)) as paused,
       coalesce((select c.state
                   from breakwater.circuit c
                   left join breakwater.handler h on h.kind = j.kind
                  where breakwater.is_circuit_of(c.kind, c.key, j.kind, h.shared_key, '')), 'none') as circuit,
       (select count(*) from breakwater.active_worker w
         where j.kind = any (w.kinds) and j.queue = any (w.queues)) as workers
  from breakwater.job j
  left join breakwater.held r on r.job = j.id
  left join breakwater.dependant d on d.job = j.id and d.released_at is null and j.run_at = 'infinity'
 group by j.queue, j.kind;

-- Why no worker takes a ready job of a queue and kind, if all workers that could take it have suspended themselves for
-- the kind; null if one of them has not.
create function breakwater.self_suspensions(p_queue text, p_kind text) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select format('every worker that handles ''%s'' has suspended itself, %s until %s: %s', p_kind,
                  (array_agg(w.name order by s.until))[1], min(s.until), (array_agg(s.reason order by s.until))[1])
      from breakwater.active_worker w
      left join breakwater.suspension s on s.kind = p_kind collate "C" and s.key = '' and s.worker = w.id
                                       and s.is_local and s.until > breakwater.clock()
     where p_kind = any (w.kinds) and p_queue = any (w.queues)
       -- Nearly always there is no such suspension, and nothing more has to be checked.
       and exists (select from breakwater.suspension l where l.is_local)
    having bool_and(s.worker is not null)
$$;

-- Each job with its state, and why it is not running.
create view breakwater.job_status as
select j.id, j.queue, j.kind, j.priority, j.attempt + (k.job is not null)::integer as attempt, coalesce(j.max_attempts, h.max_attempts) as max_attempts,
       s.state,
       case s.state
           when 'running' then format('running on %s since %s', coalesce(w.name, 'worker ' || k.worker),
                                      k.claimed_at)
                               || coalesce('; ' || q.actor || ' has cancelled it', '')
           when 'suspect' then case when j.crashes = 2
               then 'its worker was lost twice in a row while it held the job: it waits to run apart from others'
               else format('its worker was lost while it ran alone: poison at %s, unless that worker comes back', j.run_at)
               end
           when 'dependent' then breakwater.why_dependent(j.id)
           when 'scheduled' then format('scheduled for %s', j.run_at)
           when 'retrying' then case when j.run_at > now() or breakwater.retries_left(j.kind) > 0
               then format('%s; runs again at %s', coalesce(j.errors -> -1 ->> 'name', 'not yet'), j.run_at)
               else format('%s; it was due at %s and waits, for the retry budget of ''%s'' is spent for now',
                           coalesce(j.errors -> -1 ->> 'name', 'not yet'), j.run_at, j.kind) end
           when 'paused' then format('the %s ''%s'' is paused by %s: %s', p.scope, p.name, p.actor, p.reason)
           when 'circuit_open' then format('the circuit of ''%s'' is open until %s: %s', n.name,
                                           coalesce(c.retry_at::text, c.override_until::text, 'somebody closes it'),
                                           c.reason)
           when 'circuit_half_open' then format('the circuit of ''%s'' is half-open: only probes run', n.name)
           when 'limited' then b.why
           when 'ordered' then b.why
           when 'no_handler' then format('no worker that is alive handles ''%s'' in the queue ''%s''', j.kind, j.queue)
           else coalesce(case when j.parked is not null and j.run_at is not null
                              then format('the circuit of ''%s'' is closed again: the job comes back in a moment',
                                          breakwater.circuit_name(j.kind, j.parked)) end,
                         breakwater.self_suspensions(j.queue, j.kind),
                         b.why,
                         breakwater.why_unseen(j.queue, j.kind, j.priority, j.position, j.lease),
                         'waiting for a free worker')
       end as why,
       j.enqueued_at,
       case when k.job is null then case when d.job is null then j.run_at else d.run_at end end as run_at, j.ready_at,
       k.worker, j.unique_key, j.errors, j.payload,
       -- What its run has reported, if it runs, and the checkpoint from which the next run goes on.
       case when g.lease = k.lease then g.fraction end as fraction, case when g.lease = k.lease then g.note end as note,
       g.checkpoint, q.requested_at as cancelled_at
  from breakwater.job j
  left join breakwater.handler h on h.kind = j.kind
  left join breakwater.circuit c on breakwater.is_circuit_of(
            c.kind, c.key, j.kind, case when j.parked is null then h.shared_key end, coalesce(j.parked, ''))
 cross join lateral (select breakwater.circuit_name(c.kind, c.key) as name) n
  left join breakwater.held k on k.job = j.id
  left join breakwater.dependant d on d.job = j.id and d.released_at is null and j.run_at = 'infinity'
  left join breakwater.worker w on w.id = k.worker
  left join breakwater.progress g on g.job = j.id
  left join breakwater.cancel_request q on q.job = j.id and q.lease = k.lease
  left join lateral (select * from breakwater.pause p
                      where breakwater.is_pause_of(p.scope, p.name, j.queue, j.kind)
                      limit 1) p on true
 cross join lateral (
       select exists (select from breakwater.active_worker a
                       where j.kind = any (a.kinds) and j.queue = any (a.queues)) as is_taken) a
 -- Most kinds have no rules.
 cross join lateral (
       select case when h.rules is not null and k.job is null and (j.run_at is null or j.rule is not null)
                   then breakwater.why_held_back(j) end as why,
              case when j.rule is not null then (select r.type from breakwater.flow_rule r where r.id = j.rule) end as type) b
 cross join lateral (
       select case when k.job is not null then 'running'
                   when j.crashes >= 2 and j.run_at is not null then 'suspect'
                   when j.parked is not null and c.state = 'open' then 'circuit_open'
                   when j.parked is not null and c.state = 'half_open' and a.is_taken then 'circuit_half_open'
                   when num_nonnulls(j.parked, j.rule) = 0 and j.run_at is not null
                       then case when d.job is not null then 'dependent'
                                 when breakwater.has_run(j.attempt, j.errors) then 'retrying' else 'scheduled' end
                   when p.name is not null then 'paused'
                   when not a.is_taken then 'no_handler'
                   when c.state = 'open' then 'circuit_open'
                   when c.state = 'half_open' then 'circuit_half_open'
                   when b.type = 'order' then 'ordered'
                   when b.why is not null and b.type is distinct from 'share' then 'limited'
                   else 'ready'
              end as state) s;

-- The history of finished jobs that is not older than its kind's `keep`. `took` is the time of the last run, from its
-- claim to its end, and `waited` that from the time the job was ready to that claim.
create view breakwater.finished as
select f.id, f.kind, f.queue, f.priority, f.outcome, f.reason, f.attempt, f.key, f.unique_key, f.enqueued_at, f.ready_at,
       f.claimed_at, f.finished_at, f.finished_at - f.claimed_at as took, f.claimed_at - f.ready_at as waited, f.worker,
       f.worker_name, f.traceparent, f.errors, f.result, f.payload
  from breakwater.finished_job f
  left join breakwater.handler h on h.kind = f.kind
 -- If a user deleted the handler's row, its `keep` is unknown, and the row stays as long as its day.
 where coalesce(f.finished_at > now() - h.history_keep, true);

-- The lanes that have ready jobs: all of those that have a row in breakwater.lane, and the first of the others along
-- the index. Any client that can enqueue may create any number of the others, so at most p_others of their lanes are
-- examined.
create function breakwater.ready_lanes(p_others integer)
returns table (queue text, kind text, priority smallint)
language sql stable set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_bitmapscan = off
as $$
    with recursive walk as (
        (select j.queue, j.kind, j.priority, 1 as step from breakwater.job j
          where j.run_at is null
          order by j.queue, j.kind, j.priority limit 1)
        union all
        select n.queue, n.kind, n.priority, w.step + 1
          from walk w
         cross join lateral (
               select j.queue, j.kind, j.priority from breakwater.job j
                where j.run_at is null and (j.queue, j.kind, j.priority) > (w.queue, w.kind, w.priority)
                order by j.queue, j.kind, j.priority limit 1) n
         where w.step < p_others
    )
    select l.queue, l.kind, l.priority
      from breakwater.lane l
     -- This is not EXISTS, because the planner may turn that into a join with all ready jobs.
     cross join lateral (
           select from breakwater.job j
            where j.queue = l.queue and j.kind = l.kind and j.priority = l.priority and j.run_at is null limit 1) f
    union all
    select w.queue, w.kind, w.priority
      from walk w
     where not exists (select from breakwater.lane l
                        where l.queue = w.queue and l.kind = w.kind and l.priority = w.priority)
$$;

-- The first jobs that wait for their time: p_limit of those that never ran, in the order in which they are due, and
-- p_limit retries of each kind. Jobs whose run_at is infinity are left out.
create function breakwater.waiting_for_time(p_limit integer)
returns table (queue text, kind text, run_at timestamptz, has_run boolean)
language sql stable set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_bitmapscan = off
as $$
    (select j.queue, j.kind, j.run_at, breakwater.has_run(j.attempt, j.errors) from breakwater.job j
      where j.run_at < 'infinity' and j.attempt = 0 and j.parked is null
      order by j.run_at limit p_limit)
    union all
    select r.queue, k.kind, r.run_at, true
      from breakwater.kinds_with_retries() k(kind)
     cross join lateral (
           select j.queue, j.run_at from breakwater.job j
            where j.kind = k.kind collate "C" and j.run_at < 'infinity' and j.attempt > 0 and j.parked is null
            order by j.run_at limit p_limit) r
$$;

-- Jobs that wait for others, at most p_limit.
create function breakwater.waiting_for_jobs(p_limit integer)
returns table (queue text, kind text, ready_at timestamptz)
language sql stable set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off
as $$
    select j.queue, j.kind, j.ready_at
      from (select d.job from breakwater.dependant d where d.released_at is null limit p_limit) d
      join breakwater.job j on j.id = d.job and j.run_at = 'infinity'
$$;

-- How many jobs wait for each of some circuits, counted up to a cap. They are counted in the lanes' index only. Running
-- jobs are looked up once for all circuits, and subtracted.
create function breakwater.waiting_behind(p_kinds text[], p_keys text[], p_cap integer default 10000)
returns table (kind text, key text, waiting bigint)
language sql stable
set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_bitmapscan = off
as $$
    with recursive queue as (
        -- It skips from queue to queue along the index.
        (select j.queue from breakwater.job j where j.run_at is null order by j.queue limit 1)
        union all
        select n.queue
          from queue q
         cross join lateral (select j.queue from breakwater.job j
                              where j.run_at is null and j.queue > q.queue
                              order by j.queue limit 1) n
    ), running as materialized (
        select j.kind, count(*) as jobs
          from breakwater.held h join breakwater.job j on j.id = h.job
         where j.run_at is null
         group by j.kind
    )
    select c.kind, c.key,
           case when c.kind <> '*' and c.key <> '' then
               (select count(*) from (select from breakwater.job j where j.kind = c.kind and j.parked = c.key limit p_cap) s)
           else
               (select least(coalesce(sum(greatest(l.jobs - l.running, 0)), 0), p_cap)::bigint
                  from (select h.kind, coalesce((select r.jobs from running r where r.kind = h.kind), 0) as running
                          from breakwater.handler h
                         where breakwater.is_handler_of(h.kind, h.shared_key, c.kind, c.key)) k
                 cross join lateral (
                       select k.running, count(*) as jobs
                         from (select from queue q
                                -- With offset 0, each queue is looked up in the index, not joined with a scan of it.
                                cross join lateral (select from breakwater.job j
                                                     where j.run_at is null and j.queue = q.queue and j.kind = k.kind
                                                    offset 0) w
                                limit p_cap + k.running) s) l)
           end
      from unnest(p_kinds, p_keys) u(kind, key)
     cross join lateral (select u.kind collate "C" as kind, u.key collate "C" as key) c
$$;

-- Each circuit with the facts that users need: why it is in its state, when it is probed, the calls in its window, and
-- how many jobs wait.
create view breakwater.circuit_status as
select c.kind, c.key, breakwater.circuit_name(c.kind, c.key) as name, c.state, c.generation, c.since, c.reason,
       c.retry_at, c.reopened, c.ramp_until, c.override, c.override_actor, c.override_until,
       (select count(*) from breakwater.probe p
         where p.kind = c.kind and p.key = c.key and p.expires_at > now()) as probes_out,
       c.successes as probes_succeeded,
       w.calls, w.failed, w.slow,
       w.failed / nullif(w.calls, 0)::double precision as failure_rate,
       w.slow / nullif(w.calls, 0)::double precision as slow_rate,
       w.streak as failures_in_a_row,
       h.failure_rate as failure_threshold, h.slow_rate as slow_threshold, h.minimum_calls, h.consecutive_failures,
       h.probes, h.successes_to_close, h.fallback,
       -- All of them are counted, because no circuit reaches this cap.
       (select b.waiting from breakwater.waiting_behind(array[c.kind], array[c.key], 2147483647) b) as waiting,
       (select count(*) from breakwater.suspension s
         where s.kind = c.kind and s.key = c.key and s.times > 0 and not s.is_local) as suspended_workers
  from breakwater.circuit c
 cross join lateral breakwater.policy_of(c.kind, c.key) h
 cross join lateral breakwater.window_of(c, h, null) w;

-- Workers that get no jobs of a circuit, because their calls failed while those of other workers succeeded; and, if
-- is_local, workers that suspended themselves for a kind because they lack something that they need to run its jobs.
create view breakwater.suspension_status as
select s.kind, s.key, breakwater.circuit_name(s.kind, s.key) as circuit, s.worker, w.name as worker_name, s.since,
       s.until, s.times, s.reason, s.is_local
  from breakwater.suspension s
  left join breakwater.worker w on w.id = s.worker
 where s.times > 0;

-- The registered workers, whether each is alive, and which one leads.
create view breakwater.worker_status as
select w.id, w.name, w.version, w.state, w.queues, w.kinds, w.concurrency, w.running, w.started_at,
       now() - w.beat_at as silent_for, w.lease,
       w.beat_at > now() - w.lease as alive,
       exists (select from breakwater.leader l where l.worker = w.id and l.expires_at > now()) as leads,
       w.drain_reason, w.unresponsive
  from breakwater.worker w;
