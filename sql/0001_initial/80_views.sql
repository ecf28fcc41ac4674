-- What people read: how deep, how old, and why is this job not running?

-- Depth and age of every queue and kind that has jobs.
create view breakwater.depth as
select j.queue, j.kind,
       count(*) filter (where j.run_at is null and j.worker is null) as ready,
       count(*) filter (where j.worker is not null) as running,
       count(*) filter (where j.run_at is not null and j.attempt = 0) as scheduled,
       count(*) filter (where j.run_at is not null and j.attempt > 0) as retrying,
       now() - min(j.ready_at) filter (where j.run_at is null and j.worker is null) as oldest_ready,
       min(j.run_at) as next_due,
       exists (select from breakwater.pause p
                where (p.scope = 'queue' and p.name = j.queue) or (p.scope = 'kind' and p.name = j.kind)) as paused,
       coalesce((select c.state from breakwater.circuit c where c.kind = j.kind and c.key = ''), 'none') as circuit,
       (select count(*) from breakwater.worker w
         where j.kind = any (w.kinds) and j.queue = any (w.queues)
           and w.beat_at > now() - w.lease and w.state = 'running') as workers
  from breakwater.job j
 group by j.queue, j.kind;

-- Each job, where it stands, and why it is not running.
create view breakwater.job_status as
select j.id, j.queue, j.kind, j.priority, j.attempt, coalesce(j.max_attempts, h.max_attempts) as max_attempts,
       s.state,
       case s.state
           when 'running' then format('running on %s since %s', coalesce(w.name, 'worker ' || j.worker),
                                      coalesce(k.claimed_at::text, '?'))
           when 'scheduled' then format('scheduled for %s', j.run_at)
           when 'retrying' then format('attempt %s failed; retries at %s', j.attempt, j.run_at)
           when 'paused' then format('the %s ''%s'' is paused by %s: %s', p.scope, p.name, p.actor, p.reason)
           when 'circuit_open' then format('the circuit of ''%s'' is open until %s: %s', j.kind,
                                           coalesce(c.retry_at::text, c.override_until::text, 'somebody closes it'),
                                           c.reason)
           when 'circuit_half_open' then format('the circuit of ''%s'' is half-open: only probes run', j.kind)
           when 'no_handler' then format('no worker that is alive handles ''%s'' in the queue ''%s''', j.kind, j.queue)
           else 'waiting for a free worker'
       end as why,
       j.enqueued_at, j.run_at, j.ready_at, j.worker, j.unique_key, j.errors, j.payload
  from breakwater.job j
  left join breakwater.handler h on h.kind = j.kind
  left join breakwater.circuit c on c.kind = j.kind and c.key = ''
  left join breakwater.worker w on w.id = j.worker
  left join breakwater.claim k on k.lease = j.lease and j.worker is not null
  left join lateral (select * from breakwater.pause p
                      where (p.scope = 'queue' and p.name = j.queue) or (p.scope = 'kind' and p.name = j.kind)
                      limit 1) p on true
 cross join lateral (
       select case when j.worker is not null then 'running'
                   when j.run_at is not null and j.attempt = 0 then 'scheduled'
                   when j.run_at is not null then 'retrying'
                   when p.name is not null then 'paused'
                   when not exists (select from breakwater.worker a
                                     where j.kind = any (a.kinds) and j.queue = any (a.queues)
                                       and a.beat_at > now() - a.lease and a.state = 'running') then 'no_handler'
                   when c.state = 'open' then 'circuit_open'
                   when c.state = 'half_open' then 'circuit_half_open'
                   else 'ready'
              end as state) s;

-- Each circuit with what people ask about it: why it is so, when it is probed, what its window holds, what waits.
create view breakwater.circuit_status as
select c.kind, c.key, c.state, c.generation, c.since, c.reason, c.retry_at, c.reopened,
       c.override, c.override_actor, c.override_until,
       (select count(*) from breakwater.probe p
         where p.kind = c.kind and p.key = c.key and p.expires_at > now()) as probes_out,
       c.successes as probes_succeeded,
       t.calls, t.failed, case when t.calls > 0 then t.failed / t.calls::double precision end as failure_rate,
       h.failure_rate as failure_threshold, h.minimum_calls, h.consecutive_failures, h.fallback,
       (select count(*) from breakwater.job j
         where j.kind = c.kind and j.run_at is null and j.worker is null) as waiting
  from breakwater.circuit c
  left join breakwater.handler h on h.kind = c.kind
  left join lateral (
       select coalesce(sum(t.succeeded + t.failed), 0)::bigint as calls, coalesce(sum(t.failed), 0)::bigint as failed
         from breakwater.tally t
        where t.kind = c.kind and t.key = c.key and t.generation = c.generation
          and t.slot > now() - coalesce(h.circuit_window, interval '1 minute')) t on true;

-- The workers that are alive, and who leads.
create view breakwater.worker_status as
select w.id, w.name, w.version, w.state, w.queues, w.kinds, w.concurrency, w.running, w.started_at,
       now() - w.beat_at as silent_for, w.lease,
       w.beat_at > now() - w.lease as alive,
       exists (select from breakwater.leader l where l.worker = w.id and l.expires_at > now()) as leads
  from breakwater.worker w;
