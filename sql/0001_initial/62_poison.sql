-- Jobs that kill their workers. It is unknown which of a lost worker's jobs killed it, so none is charged an attempt.
-- Each is only marked as having been held. After two such losses in a row a job is a *suspect*: it leaves its lane and
-- waits to run in a worker that holds nothing but suspects, up to a hundred of them. Suspects whose runs end are
-- cleared. If a group's worker is lost, the group runs again in halves, until it is one job. That job is *accused*, and
-- dead-lettered as poison unless its worker registers again in time, which shows that it was only disconnected. So a
-- killer among n jobs is found in log2(n) losses.

-- The run_at of a job that was released, by the number of losses counted against it: null for now in its lane; infinity
-- for a suspect, which runs apart from others; or, for an accused job, the time p_grace from now, by which its worker
-- may register again.
create function breakwater.run_at_after(p_crashes integer, p_grace interval) returns timestamptz
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select case when p_crashes >= 3 then now() + p_grace when p_crashes = 2 then 'infinity'::timestamptz end
$$;

-- The suspects that are running now.
create function breakwater.held_suspects() returns setof bigint
language sql stable set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
    select j.id
      from breakwater.claim c
     cross join lateral unnest(c.jobs) h(id)
      join breakwater.job j on j.id = h.id and j.lease < c.lease
     where c.lane is null and j.crashes >= 2
$$;

-- The suspects that a worker should run next, together and with no other jobs. There are none while suspects run in any
-- worker, so that a killer kills only one worker of the fleet at a time. Suspects of stopped kinds and queues wait like
-- every other job. If suspects are the only jobs left to probe a half-open circuit with, one of them runs, unless a
-- probe is running.
create function breakwater.next_suspects(p_worker bigint) returns bigint[]
language sql stable set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
    with eligible as (
        select j.id, j.position, w.concurrency,
               case when exists (select from breakwater.circuit c
                                  where c.state = 'half_open'
                                    and (breakwater.is_circuit_of(c.kind, c.key, j.kind, h.shared_key, '')
                                         or breakwater.is_circuit_of(c.kind, c.key, j.kind, h.shared_key,
                                                                     breakwater.key_of(j.payload, h.key_path))))
                    then 1 else coalesce(j.suspect_group, 100) end as group_size
          from breakwater.job j
          join breakwater.worker w on w.id = p_worker and w.state = 'running' and j.kind = any (w.kinds)
                                  and j.queue = any (w.queues)
          left join breakwater.handler h on h.kind = j.kind
         where j.crashes >= 2 and j.run_at = 'infinity'
           and not exists (select from breakwater.held_suspects())
           and not exists (select from breakwater.pause p where breakwater.is_pause_of(p.scope, p.name, j.queue, j.kind))
           and not exists (select from breakwater.circuit c
                            where (c.state = 'open'
                                   or (c.state = 'half_open'
                                       and exists (select from breakwater.probe p
                                                    where p.kind = c.kind and p.key = c.key
                                                      and p.expires_at > breakwater.clock())))
                              and (breakwater.is_circuit_of(c.kind, c.key, j.kind, h.shared_key, '')
                                   or breakwater.is_circuit_of(c.kind, c.key, j.kind, h.shared_key,
                                                               breakwater.key_of(j.payload, h.key_path))))
           and not exists (select from breakwater.suspension s
                            where s.worker = p_worker and s.kind = j.kind and s.until > breakwater.clock())
         order by j.position
         limit 1000
    ), first as (
        select e.group_size, least(e.group_size, greatest(e.concurrency, 1)) as most
          from eligible e order by e.position limit 1
    )
    select coalesce(array_agg(g.id order by g.position), '{}')
      from (select e.id, e.position, row_number() over (order by e.position) as number
              from eligible e where e.group_size = (select f.group_size from first f)) g
     where g.number <= (select f.most from first f)
$$;

-- Whether a worker should stop claiming other jobs in order to run suspects: some wait, and no other worker that could
-- run them runs fewer jobs.
create function breakwater.should_run_suspects(p_worker bigint, p_running integer) returns boolean
language sql stable set search_path = pg_catalog, pg_temp set jit = off set lock_timeout = '1s'
as $$
    select exists (
        select from breakwater.job j
         where j.id = (breakwater.next_suspects(p_worker))[1]
           and not exists (select from breakwater.active_worker o
                            where o.id <> p_worker and j.kind = any (o.kinds) and j.queue = any (o.queues)
                              and (o.running, o.id) < (p_running, p_worker)))
$$;

-- Claims suspects for a worker that holds no other job, with the same result as `breakwater.claim`. It waits for the
-- disk when it commits. Locks: those jobs, by SKIP LOCKED.
create function breakwater.claim_suspects(p_worker bigint) returns setof breakwater.claimed_jobs
language plpgsql security definer set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
declare
    v_ids   bigint[] := breakwater.next_suspects(p_worker);
    v_jobs  breakwater.claimed_jobs[];
    v_lease bigint;
begin
    perform breakwater.require_read_committed();
    perform breakwater.commit_durably();
    v_ids := array(
        select j.id from breakwater.job j
         where j.id = any (v_ids) and j.crashes + 0 >= 2 and coalesce(j.run_at, now()) = 'infinity'
         order by j.position
           for update skip locked);
    v_ids := breakwater.without_held(v_ids);
    v_lease := nextval('breakwater.lease');
    -- If there are rules, the suspects of one kind only, because a limit that kinds share counts only jobs whose claim
    -- is written.
    v_ids := array(
        select unnest(breakwater.start_by_rules(k.kind, k.ids, v_lease, p_worker))
          from (select j.kind, array_agg(j.id order by j.position) as ids from breakwater.job j where j.id = any (v_ids)
                 group by j.kind order by min(j.position)
                 limit case when exists (select from breakwater.flow_rule) then 1 end) k);
    if v_ids = '{}' then
        return;
    end if;
    loop
        v_jobs := array(
            select t
              from (select j.kind, array_agg(j.id) as ids from breakwater.job j where j.id = any (v_ids) group by j.kind) k
              left join breakwater.handler h on h.kind = k.kind
              left join breakwater.circuit c on breakwater.is_circuit_of(c.kind, c.key, k.kind, h.shared_key, '')
             cross join lateral breakwater.jobs_of_claim(
                   k.ids, v_lease, h.key_path, coalesce(h.shared_key, '')::text, coalesce(c.generation, 0), false) t);
        exit when cardinality(v_ids) = 1
               or (select sum(pg_column_size(t.payloads)) from unnest(v_jobs) t) <= breakwater.longest_payload();
        -- Fewer suspects are taken if their payloads are large.
        v_ids := v_ids[1:cardinality(v_ids) / 2];
    end loop;
    insert into breakwater.claim (lease, worker, last, floor, jobs) values (v_lease, p_worker, 0, 0, v_ids);
    return query select t.* from unnest(v_jobs) t;
end
$$;

-- Records that the process of a worker that was considered lost is alive. Its silence then does not count against the
-- jobs that it held.
create function breakwater.survived(p_worker bigint) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
declare
    v_jobs  bigint[];
    v_waiting bigint[];
    v_kinds text[];
    v_count integer;
begin
    update breakwater.lost_worker l set survived = true
     where l.worker = p_worker and not l.survived
    returning l.jobs into v_jobs;
    if not found then
        return 0;
    end if;
    v_waiting := breakwater.lock_waiting(v_jobs, true);
    -- Jobs that are running again are handled when they end.
    with cleared as (
        update breakwater.job j
           -- A job that was lost in a group is still a suspect, because that loss was not counted.
           set crashes = case when j.crashes = 2 and j.suspect_group is not null then 2 else j.crashes - 1 end,
               suspect_group = case when j.crashes <> 2 then j.suspect_group end,
               run_at = case when j.crashes = 2 and j.suspect_group is not null then j.run_at
                             when j.crashes = 1 or j.id <> all (v_waiting) then j.run_at
                             when j.crashes = 2 then null else 'infinity' end,
               ready_at = case when j.id = any (v_waiting) then now() else j.ready_at end,
               position = case when j.id = any (v_waiting) then nextval('breakwater.job_position') else j.position end
         where j.id = any (v_jobs) and j.crashes > 0
        returning j.kind
    )
    select array_agg(distinct c.kind), count(*) into v_kinds, v_count from cleared c;
    perform breakwater.wake(v_kinds);
    return v_count;
end
$$;

-- Dead-letters accused jobs whose workers have not registered again in time.
create function breakwater.dead_letter_poison(p_limit integer) returns integer
language plpgsql set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
declare
    v_job   breakwater.job;
    v_count integer := 0;
begin
    for v_job in
        select * from breakwater.job j
         where j.crashes >= 3 and j.run_at <= now()
         limit p_limit
           for update skip locked
    loop
        perform breakwater.dead_letter_job(v_job.id, 'poison', breakwater.evidence(v_job));
        v_count := v_count + 1;
    end loop;
    return v_count;
end
$$;

-- A job's history with the losses that count against it: the worker, the time, and the other jobs that it held (the
-- first hundred).
create function breakwater.evidence(p_job breakwater.job) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select coalesce(p_job.errors, '[]') || coalesce(jsonb_agg(jsonb_build_object(
               'attempt', p_job.attempt + 1, 'class', 'crashed', 'name', 'worker.lost',
               'message', format('the worker ''%s'' was lost while it held this job %s', l.name,
                                 case cardinality(l.jobs) when 1 then 'alone'
                                                          else 'and ' || cardinality(l.jobs) - 1 || ' others' end),
               'at', l.lost_at, 'worker', l.worker, 'last_beat', l.beat_at,
               'neighbours', to_jsonb((array_remove(l.jobs, p_job.id))[1:100])) order by l.lost_at), '[]')
      from (select * from breakwater.lost_worker k
             where p_job.id = any (k.jobs) and not k.survived
             order by k.lost_at desc
             limit 20) l
$$;
