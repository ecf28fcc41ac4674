-- Probes: the jobs that a half-open circuit lets through, and how their failures are charged.
--
-- The head of a lane is not a representative sample, because all jobs there may be bad. So probes are chosen from
-- different places of all lanes of the kind, and jobs that have failed before are chosen only if no others are found.

-- Claims probes for a circuit that lets p_permits jobs of a kind through, from the lanes that a worker claims from.
-- Returns nothing if no job is above the lanes' cursors.
--
-- Each job stays where it is in its lane. `moved_from` records that a claim may hold it, so that later claims that
-- reach the job check this. Only a few jobs of each place are examined, so the cost does not depend on how many wait.
--
-- Locks: the lanes' rows and the jobs, by SKIP LOCKED.
create function breakwater.claim_sample(
    p_worker bigint, p_kind text, p_queues text[], p_priorities smallint[], p_circuit_kind text, p_circuit_key text,
    p_generation bigint, p_permits integer, p_is_filtered boolean
) returns setof breakwater.claimed_jobs
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_kind   text collate "C" := p_kind;
    v_lanes  breakwater.lane[];
    v_lane   breakwater.lane;
    v_newest breakwater.claim;
    v_ids    bigint[] := '{}';
    v_of_lane bigint[];
    v_number integer;
    v_turn   integer;
    v_avoid  bigint[] := breakwater.latest_probes(p_circuit_kind, p_circuit_key, p_generation);
    v_id     bigint;
    v_lease  bigint;
    -- Of ordered keys, only the oldest job may run.
    v_is_ordered boolean := breakwater.is_ordered(p_kind);
begin
    v_lanes := array(
        select a from unnest(p_queues, p_priorities) with ordinality l(queue, priority, place)
          join breakwater.lane a on a.queue = l.queue collate "C" and a.kind = v_kind and a.priority = l.priority
         where exists (select from breakwater.job j
                        where j.queue = a.queue and j.kind = a.kind and j.priority = a.priority and j.run_at is null)
           and not exists (select from breakwater.pause p where breakwater.is_pause_of(p.scope, p.name, a.queue, a.kind))
         order by l.place
           for update of a skip locked);
    if v_lanes = '{}' then
        return;
    end if;

    -- The oldest job is taken once a round, and then the newest and a random one in turn, because all jobs at the head
    -- may be similar.
    v_number := breakwater.probes_of_round(p_circuit_kind, p_circuit_key, p_generation);
    for number in v_number .. v_number + p_permits + 8 loop
        exit when cardinality(v_ids) >= p_permits;
        v_lane := v_lanes[number % cardinality(v_lanes) + 1];
        v_turn := number / cardinality(v_lanes);
        v_id := breakwater.find_probe(
            v_lane, case when v_turn = 0 or v_is_ordered then 'oldest' when v_turn % 2 = 1 then 'newest' else 'any' end,
            v_ids || v_avoid, p_is_filtered);
        if v_id is not null then
            v_ids := v_ids || v_id;
        end if;
    end loop;
    if cardinality(v_ids) < p_permits then
        v_ids := v_ids || breakwater.find_any_probes(
            v_lanes, v_ids, v_avoid, p_permits - cardinality(v_ids), p_is_filtered);
    end if;

    foreach v_lane in array v_lanes loop
        v_of_lane := array(
            select j.id from breakwater.job j
             where j.id = any (v_ids) and num_nulls(j.run_at) = 1
               and (j.queue, j.priority) = (v_lane.queue, v_lane.priority)
               for no key update skip locked);
        continue when v_of_lane = '{}';
        v_newest := breakwater.newest_claim(v_lane);
        v_lease := nextval('breakwater.lease');
        v_of_lane := breakwater.start_by_rules(p_kind, v_of_lane, v_lease, p_worker);
        continue when v_of_lane = '{}';
        update breakwater.job j set moved_from = v_lane.id where j.id = any (v_of_lane);
        insert into breakwater.claim (lease, worker, lane, last, floor, jobs)
        values (v_lease, p_worker, v_lane.id, v_newest.last, v_newest.floor, v_of_lane);
        perform breakwater.lease_probes(p_circuit_kind, p_circuit_key, p_generation, v_kind, v_of_lane, v_lease);
        return query
            select t.* from breakwater.jobs_of_claim(v_of_lane, v_lease, null, p_circuit_key, p_generation, true) t;
    end loop;
end
$$;

-- A lane's newest claim, which has its cursor; or a row without a lease if there is no claim.
create function breakwater.newest_claim(p_lane breakwater.lane) returns breakwater.claim
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    v_newest breakwater.claim;
begin
    select * into v_newest from breakwater.claim c where c.lane = p_lane.id order by c.last desc, c.lease desc limit 1;
    if not found then
        v_newest.last := p_lane.floor;
        v_newest.floor := p_lane.floor;
    end if;
    return v_newest;
end
$$;

-- Finds a job of a lane that has not failed before: among the oldest, among the newest, or (any) among those that
-- follow a random position. null if the twenty jobs at that place have failed, or cannot be taken. A job that was
-- claimed and released is at the end of its lane, but it is not taken as one of the newest, because it dates from when
-- the circuit opened.
create function breakwater.find_probe(
    p_lane breakwater.lane, p_place text, p_but bigint[], p_is_filtered boolean
) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_cursor bigint := (breakwater.newest_claim(p_lane)).last;
    v_from   bigint := v_cursor;
    v_first  bigint;
    v_last   bigint;
    v_id     bigint;
begin
    if p_place = 'newest' then
        select j.id into v_id
          from (select j.*, j.xmax from breakwater.job j
                 where j.queue = p_lane.queue and j.kind = p_lane.kind and j.priority = p_lane.priority
                   and j.position > v_cursor and j.run_at is null
                 order by j.position desc
                 limit 20) j
         where j.lease = 0 and j.errors is null and j.attempt + j.handed_back = 0 and j.id <> all (p_but)
           and (not p_is_filtered or breakwater.is_let_through(j.kind, j.payload, j.enqueued_at))
           and ((j.xmax = '0' and j.moved_from is null)
                or breakwater.may_claim(j.id, j.position, j.lease, j.moved_from, 9223372036854775807))
         limit 1;
        return v_id;
    end if;
    if p_place = 'any' then
        select j.position into v_first from breakwater.job j
         where j.queue = p_lane.queue and j.kind = p_lane.kind and j.priority = p_lane.priority
           and j.position > v_cursor and j.run_at is null
         order by j.position limit 1;
        select j.position into v_last from breakwater.job j
         where j.queue = p_lane.queue and j.kind = p_lane.kind and j.priority = p_lane.priority
           and j.position > v_cursor and j.run_at is null
         order by j.position desc limit 1;
        v_from := v_first - 1 + floor(random() * (v_last - v_first + 1))::bigint;
    end if;
    select j.id into v_id
      from (select j.*, j.xmax from breakwater.job j
             where j.queue = p_lane.queue and j.kind = p_lane.kind and j.priority = p_lane.priority
               and j.position > v_from and j.run_at is null
             order by j.position
             limit 20) j
     where j.errors is null and j.attempt + j.handed_back = 0 and j.id <> all (p_but)
       and (not p_is_filtered or breakwater.is_let_through(j.kind, j.payload, j.enqueued_at))
       and ((j.xmax = '0' and j.moved_from is null)
            or breakwater.may_claim(j.id, j.position, j.lease, j.moved_from, 9223372036854775807))
     limit 1;
    return v_id;
end
$$;

-- Among the first jobs of some lanes, finds those that have failed the fewest times. Jobs of the latest rounds come
-- last.
create function breakwater.find_any_probes(
    p_lanes breakwater.lane[], p_but bigint[], p_avoid bigint[], p_limit integer, p_is_filtered boolean
) returns bigint[]
language plpgsql set search_path = pg_catalog, pg_temp set enable_sort = on
as $$
declare
    v_lane breakwater.lane;
    v_ids  bigint[] := '{}';
begin
    foreach v_lane in array p_lanes loop
        v_ids := v_ids || array(
            select j.id from breakwater.job j
             where j.queue = v_lane.queue and j.kind = v_lane.kind and j.priority = v_lane.priority
               and j.position > (breakwater.newest_claim(v_lane)).last and j.run_at is null
               and ((j.xmax = '0' and j.moved_from is null)
                    or breakwater.may_claim(j.id, j.position, j.lease, j.moved_from, 9223372036854775807))
             order by j.position
             limit 50);
    end loop;
    return array(
        select j.id from breakwater.job j
         where j.id = any (v_ids) and j.id <> all (p_but)
           and (not p_is_filtered or breakwater.is_let_through(j.kind, j.payload, j.enqueued_at))
         order by j.id = any (p_avoid), greatest(breakwater.failures_in(j.errors), j.attempt + j.handed_back), j.position
         limit p_limit);
end
$$;

-- Whether a job could run if its kind's circuit were closed: its key has no circuit that stops it, and it is not too
-- old.
create function breakwater.is_let_through(p_kind text, p_payload jsonb, p_enqueued_at timestamptz) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return not exists (
        select from breakwater.handler h
         where h.kind = p_kind collate "C"
           and (p_enqueued_at < breakwater.clock() - h.max_age
                or exists (select from breakwater.circuit c
                            where c.kind = h.kind and c.key <> '' and c.key = breakwater.key_of(p_payload, h.key_path)
                              and c.state <> 'closed')));
end
$$;

-- How many probes a round has had so far.
create function breakwater.probes_of_round(p_kind text, p_key text, p_generation bigint) returns integer
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return (select count(*) from breakwater.probe_result r
             where r.kind = p_kind collate "C" and r.key = p_key collate "C" and r.generation = p_generation)
         + (select count(*) from breakwater.probe p
             where p.kind = p_kind collate "C" and p.key = p_key collate "C" and p.generation = p_generation);
end
$$;

-- How many failed runs a job's history has.
create function breakwater.failures_in(p_errors jsonb) returns integer
language sql immutable
as $$ select case when jsonb_typeof(p_errors) = 'array' then jsonb_array_length(p_errors) else 0 end $$;

-- The jobs that were probes in this round or in the one before.
create function breakwater.latest_probes(p_kind text, p_key text, p_generation bigint) returns bigint[]
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select r.job from breakwater.probe_result r
         where r.kind = p_kind collate "C" and r.key = p_key collate "C" and r.generation >= p_generation - 2);
end
$$;

-- Claims probes for half-open circuits of keys, from the jobs that are parked for them.
--
-- It tries at most twenty circuits. It leaves out those that this worker cannot probe: circuits without a parked job in
-- its queues, circuits that have all their probes, and circuits for which the worker is suspended. It picks from the
-- rest at random, so that no key waits for others without a decision.
-- Locks: the circuits' rows and those jobs, by SKIP LOCKED.
create function breakwater.claim_parked_probes(
    p_worker bigint, p_queues text[], p_kinds text[], p_slots integer[], p_room integer[], p_concurrency integer[],
    p_total integer
) returns setof breakwater.claimed_jobs
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_circuit record;
    v_admitted record;
    v_left  integer := p_total;
    v_room  integer[] := p_room;
    v_queues text[];
    v_ids   bigint[];
    v_lease bigint;
begin
    -- Nearly always there is no such circuit, and nothing more has to be checked.
    if not exists (select from breakwater.circuit c
                    where c.kind = any (p_kinds) and c.key <> ''
                      and (c.state = 'half_open' or (c.state = 'open' and c.retry_at <= breakwater.clock()))) then
        return;
    end if;
    v_queues := array(
        select distinct q.name from unnest(p_queues) q(name)
         where not exists (select from breakwater.pause p where breakwater.is_pause_of(p.scope, p.name, q.name, null)));
    for v_circuit in
        select c.kind, c.key, k.slot
          from (select distinct l.kind collate "C" as kind, l.slot from unnest(p_kinds, p_slots) l(kind, slot)
                 where p_room[l.slot] > 0) k
          join breakwater.circuit c on c.kind = k.kind and c.key <> ''
         where (c.state = 'half_open' or (c.state = 'open' and c.retry_at <= breakwater.clock()))
           and not exists (select from breakwater.pause p where breakwater.is_pause_of(p.scope, p.name, null, k.kind))
           and not exists (select from breakwater.suspension s
                            where s.kind = c.kind and s.worker = p_worker and s.until > breakwater.clock()
                              and s.key = case when s.is_local then '' else c.key end)
           and exists (select from unnest(v_queues) q(name)
                        cross join lateral (
                              select from breakwater.job j
                               where j.kind = c.kind and j.parked = c.key and j.queue = q.name collate "C"
                                 and num_nulls(j.run_at) = 0
                                 -- The probe lease is quick to look up. Whether a claim holds the job is checked below.
                                 and not exists (select from breakwater.probe p where p.job = j.id and p.lease > j.lease)
                               limit 1) w)
           and (c.state = 'open'
                or (select count(*) from breakwater.probe p
                     where p.kind = c.kind and p.key = c.key and p.expires_at > breakwater.clock())
                   < coalesce((select h.probes from breakwater.handler h where h.kind = c.kind), 1))
         order by random()
         limit 20
    loop
        exit when v_left <= 0;
        select * into v_admitted
          from breakwater.admit(v_circuit.kind, v_circuit.key, p_worker,
                                least(v_left, v_room[v_circuit.slot],
                                      breakwater.admit_self(v_circuit.kind, p_worker)),
                                v_room[v_circuit.slot], p_concurrency[v_circuit.slot]);
        continue when v_admitted.permits <= 0;
        v_ids := breakwater.find_parked_probes(
            v_circuit.kind, v_circuit.key, v_queues, v_admitted.generation, v_admitted.permits);
        v_ids := array(select j.id from breakwater.job j
                        where j.id = any (v_ids) and j.parked = v_circuit.key for update skip locked);
        continue when v_ids = '{}';
        v_lease := nextval('breakwater.lease');
        v_ids := breakwater.start_by_rules(v_circuit.kind, v_ids, v_lease, p_worker);
        continue when v_ids = '{}';
        insert into breakwater.claim (lease, worker, last, floor, jobs) values (v_lease, p_worker, 0, 0, v_ids);
        perform breakwater.lease_probes(
            v_circuit.kind, v_circuit.key, v_admitted.generation, v_circuit.kind, v_ids, v_lease);
        return query
            select t.* from breakwater.jobs_of_claim(v_ids, v_lease, null, v_circuit.key, v_admitted.generation, true) t;
        v_left := v_left - cardinality(v_ids);
        v_room[v_circuit.slot] := v_room[v_circuit.slot] - cardinality(v_ids);
    end loop;
end
$$;

-- Finds parked jobs of some queues that no claim holds, from both ends of each queue. Jobs that have not failed come
-- first, and jobs of the latest rounds come last.
create function breakwater.find_parked_probes(
    p_kind text, p_key text, p_queues text[], p_generation bigint, p_limit integer
) returns bigint[]
language plpgsql set search_path = pg_catalog, pg_temp set enable_sort = on
as $$
declare
    v_avoid bigint[] := breakwater.latest_probes(p_kind, p_key, p_generation);
    v_ids   bigint[];
begin
    v_ids := array(
        select e.id
          from unnest(p_queues) q(name)
         cross join lateral (
               (select j.id from breakwater.job j
                 where j.kind = p_kind collate "C" and j.parked = p_key collate "C" and j.queue = q.name collate "C"
                 order by j.priority, j.position limit 50 + p_limit)
               union
               (select j.id from breakwater.job j
                 where j.kind = p_kind collate "C" and j.parked = p_key collate "C" and j.queue = q.name collate "C"
                 order by j.priority desc, j.position desc limit 50)) e);
    return array(
        select j.id from breakwater.job j
         where j.id = any (v_ids) and num_nulls(j.run_at) = 0
           and not exists (select from breakwater.claim c
                            where c.lane is null and j.id = any (c.jobs) and c.lease > j.lease)
         order by j.id = any (v_avoid), greatest(breakwater.failures_in(j.errors), j.attempt + j.handed_back), random()
         limit p_limit);
end
$$;

-- Records the probe leases of jobs that a half-open circuit lets through. A lease ends when its job is settled, or
-- expires when its worker must be dead.
create function breakwater.lease_probes(
    p_kind text, p_key text, p_generation bigint, p_job_kind text, p_jobs bigint[], p_lease bigint
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    insert into breakwater.probe (job, lease, kind, key, generation, expires_at)
    select j, p_lease, p_kind, p_key, p_generation,
           breakwater.clock() + interval '1 minute'
           + coalesce((select h.timeout from breakwater.handler h where h.kind = p_job_kind collate "C"), interval '0')
      from unnest(p_jobs) j
    on conflict (job) do update
       set lease = excluded.lease, kind = excluded.kind, key = excluded.key, generation = excluded.generation,
           expires_at = excluded.expires_at;
end
$$;

-- Returns those of the given probes whose round has not closed the circuit, so a failure may not be the job's fault.
create function breakwater.pending_probes(p_jobs bigint[]) returns bigint[]
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return (select coalesce(array_agg(p.job), '{}') from breakwater.probe p
             where p.job = any (p_jobs)
               and not exists (select from breakwater.circuit_transition t
                                where t.kind = p.kind and t.key = p.key and t.generation = p.generation + 1
                                  and t.to_state = 'closed'));
end
$$;

-- Charges the probes that failed in rounds that closed their circuits: the dependency was healthy, so the failures were
-- the jobs' own. A job that has no attempt left is dead-lettered. Jobs that are running again are left for later.
-- Returns how many it charged.
create function breakwater.charge_probes(p_limit integer) returns integer
language plpgsql set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
declare
    v_result breakwater.probe_result;
    v_next   text;
    v_job    breakwater.job;
    v_count  integer := 0;
begin
    for v_result in
        select * from breakwater.probe_result r where r.is_pending order by r.id limit p_limit for update skip locked
    loop
        select t.to_state into v_next from breakwater.circuit_transition t
         where t.kind = v_result.kind and t.key = v_result.key and t.generation = v_result.generation + 1;
        continue when v_next is null;
        if v_next = 'closed' and exists (select from breakwater.job j where j.id = v_result.job) then
            continue when breakwater.lock_waiting(array[v_result.job]) = '{}';
            select * into v_job from breakwater.job j where j.id = v_result.job;
            if v_job.attempt + 1 >= coalesce(
                v_job.max_attempts, (select h.max_attempts from breakwater.handler h where h.kind = v_job.kind),
                breakwater.default_max_attempts())
            then
                update breakwater.job j set attempt = j.attempt + 1 where j.id = v_job.id;
                perform breakwater.dead_letter_job(v_job.id, 'exhausted', null);
            else
                update breakwater.job j set attempt = j.attempt + 1, handed_back = greatest(j.handed_back - 1, 0)
                 where j.id = v_job.id;
            end if;
            v_count := v_count + 1;
        elsif v_next <> 'closed' then
            perform breakwater.record_handed_back(v_result);
        end if;
        update breakwater.probe_result r set is_pending = false where r.id = v_result.id;
    end loop;
    return v_count;
end
$$;
