-- Claims with more checks than usual, and the form in which jobs are sent to their worker.

-- Claims from one lane, whose row the caller has locked, where some jobs need more checks: late ones, those of a kind
-- with keys, a max_age or rules, and probes. p_states are the kind's rules, which the caller has locked; null: none.
-- With p_for_shares, no job is taken: they are held back for a fair share (see 34_shares.sql).
create function breakwater.claim_with_care(
    p_worker bigint, p_lane bigint, p_queue text, p_kind text, p_priority smallint, p_lease bigint, p_cursor bigint,
    p_floor bigint, p_late breakwater.late_jobs, p_permits integer, p_bytes integer, p_key_path text[], p_is_filtered boolean,
    p_circuit_kind text, p_circuit_key text, p_generation bigint, p_is_probe boolean,
    p_states breakwater.rule_state[] default null, p_for_shares boolean default false
) returns breakwater.claimed_jobs
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_states breakwater.rule_state[] := case when not p_for_shares then p_states end;
    v_chosen record;
    v_starts record;
    v_queue  text collate "C" := p_queue;
    v_kind   text collate "C" := p_kind;
    v_ids    bigint[];
    v_found  bigint[];
    v_taken  bigint[] := '{}';
    v_positions bigint[];
    v_keys   text[];
    -- How far the lane has been searched, and up to where nothing is left in it.
    v_last   bigint := p_cursor;
    v_floor  bigint := p_floor;
    v_limit  integer;
    v_jobs   breakwater.claimed_jobs;
    v_is_complete boolean := p_late.is_complete;
begin
    -- Late jobs that another claim has taken since they were found are left out.
    if p_late.ids <> '{}' then
        v_ids := array(
            select j.id from breakwater.job j
             where j.id = any (breakwater.without_held(p_late.ids, p_lane)) and num_nulls(j.run_at) = 1
               and j.queue = v_queue and j.kind = v_kind and j.priority = p_priority and j.position <= p_cursor
               and ((j.xmax = '0' and j.moved_from is null and j.lease < p_lease)
                    or breakwater.may_claim(j.id, j.position, j.lease, j.moved_from, p_lease))
             order by j.position
             limit p_permits);
        if p_is_filtered then
            v_ids := breakwater.park_or_expire(v_kind, v_ids, p_key_path, p_permits);
        end if;
        if v_states is not null and v_ids <> '{}' then
            v_ids := (breakwater.choose(v_states, v_kind, v_ids, '{}', p_permits, true)).chosen;
        end if;
        v_taken := v_ids;
        -- Another session may be changing one of them, or the circuit of its key.
        v_is_complete := v_is_complete and not exists (
            select from unnest(breakwater.without_held(p_late.ids, p_lane)) i(id)
              join breakwater.job j on j.id = i.id and num_nulls(j.run_at) = 1
             where i.id <> all (v_taken));
    end if;
    if v_is_complete then
        -- The floor does not rise to p_cursor, which another claim may have moved since the search.
        v_floor := greatest(v_floor, least(p_late.proven, p_late.cursor));
        if p_late.is_last then
            v_last := greatest(v_last, p_late.proven);
            v_floor := greatest(v_floor, p_late.proven);
        end if;
    end if;

    -- If all jobs of a portion are parked or expired, it tries another, five in all. Then other lanes have their turn.
    v_limit := case when p_is_filtered or v_states is not null then greatest(p_permits, 500)
                    else p_permits - cardinality(v_taken) end;
    for round in 1..5 loop
        exit when cardinality(v_taken) >= p_permits;
        select array_agg(t.id), array_agg(t.position) into v_ids, v_positions
          from (select j.id, j.position
                  from breakwater.job j
                 where j.queue = v_queue and j.kind = v_kind and j.priority = p_priority and j.position > v_last
                   and j.run_at is null
                   and ((j.xmax = '0' and j.moved_from is null and j.lease < p_lease)
                        or breakwater.may_claim(j.id, j.position, j.lease, j.moved_from, p_lease))
                 order by j.position
                 limit v_limit) t;
        exit when v_ids is null;
        v_found := v_ids;
        if p_is_filtered then
            v_found := breakwater.park_or_expire(v_kind, v_ids, p_key_path, p_permits - cardinality(v_taken));
        end if;
        if v_states is not null and v_found <> '{}' then
            v_chosen := breakwater.choose(v_states, v_kind, v_found, v_taken, p_permits - cardinality(v_taken), true);
            v_found := v_chosen.chosen;
            -- Jobs that a limit without a key stops stay where they are, so the cursor stops below them.
            if v_chosen.surplus <> '{}' and cardinality(v_taken) + cardinality(v_found) < p_permits then
                v_taken := v_taken || v_found;
                v_last := greatest(v_last, (
                    select max(o.position) from unnest(v_ids, v_positions) o(id, position)
                     where o.position < (select min(s.position) from unnest(v_ids, v_positions) s(id, position)
                                          where s.id = any (v_chosen.surplus))));
                exit;
            end if;
        end if;
        v_taken := v_taken || v_found;
        -- The cursor stops at the last job taken if there are enough. Otherwise the whole portion has been searched.
        v_last := case when cardinality(v_taken) >= p_permits
                       then v_positions[array_position(v_ids, v_found[cardinality(v_found)])]
                       else v_positions[cardinality(v_positions)] end;
        exit when not (p_is_filtered or v_states is not null) or v_found <> '{}';
    end loop;

    if p_for_shares and v_taken <> '{}' then
        -- Jobs that wait for their ordered key do not wait for a share.
        v_taken := (breakwater.choose(
            array(select s from unnest(p_states) s where (s.rule).type = 'order'), v_kind, v_taken, '{}',
            cardinality(v_taken), true)).chosen;
        perform breakwater.hold_back_for_shares(p_states, v_kind, v_taken);
        v_taken := '{}';
    end if;

    loop
        exit when v_taken = '{}';
        select t.* into v_jobs
          from breakwater.jobs_of_claim(
               v_taken, p_lease, case when p_is_probe then null else p_key_path end, p_circuit_key, p_generation,
               p_is_probe) t;
        exit when pg_column_size(v_jobs.payloads) <= p_bytes or v_jobs.ids is null;
        v_limit := breakwater.count_within(v_jobs.payloads, p_bytes);
        exit when v_limit = cardinality(v_taken);
        -- The other jobs stay in the lane, so the floor must stay below them. Later jobs of their ordered keys, which
        -- may be held back by now, wait for them.
        if v_states is not null and breakwater.is_ordered(v_kind) then
            update breakwater.job j set order_key = breakwater.order_key_of(j.kind, j.payload)
             where j.id = any (v_jobs.ids[v_limit + 1:]) and j.order_key is null;
        end if;
        v_taken := v_jobs.ids[1:v_limit];
        v_last := greatest(p_cursor, v_jobs.positions[v_limit]);
        v_floor := p_floor;
    end loop;

    if p_is_probe and v_taken <> '{}' then
        perform breakwater.lease_probes(p_circuit_kind, p_circuit_key, p_generation, v_kind, v_taken, p_lease);
    end if;
    if v_states is not null and v_taken <> '{}' then
        -- The jobs in the order in which they are sent, as are the delays.
        v_taken := v_jobs.ids[1:cardinality(v_taken)];
        v_starts := breakwater.record_starts(v_states, v_kind, p_lease, v_taken);
        v_jobs.delays := v_starts.delays;
    else
        select null::bigint[] as rules, null::text[] as keys into v_starts;
    end if;
    -- A claim without jobs records how far the lane has been searched.
    if v_taken <> '{}' or v_last > p_cursor or (v_floor > p_floor and v_floor >= least(v_last, p_floor + 1000)) then
        insert into breakwater.claim (lease, worker, lane, last, floor, jobs, rules, keys)
        values (p_lease, p_worker, p_lane, v_last, v_floor, v_taken, v_starts.rules, v_starts.keys);
    end if;
    return v_jobs;
end
$$;

-- Claims some of the newest jobs of a lane, at most p_limit: those that became ready after p_since. Claims use it while
-- a circuit that has just closed ramps up, so that new jobs get half of the places beside the backlog. Its caller has
-- locked the lane.
--
-- Each job stays where it is in its lane. `moved_from` records that a claim may hold it, so that later claims that
-- reach the job check this. Locks: the jobs, by SKIP LOCKED.
create function breakwater.claim_newest(
    p_worker bigint, p_lane bigint, p_queue text, p_kind text, p_priority smallint, p_cursor bigint, p_floor bigint,
    p_limit integer, p_since timestamptz, p_circuit_key text, p_generation bigint
) returns breakwater.claimed_jobs
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_ids   bigint[];
    v_lease bigint;
    v_jobs  breakwater.claimed_jobs;
begin
    v_ids := array(
        select n.id
          from (select j.id, j.ready_at, j.lease, j.moved_from from breakwater.job j
                 where j.queue = p_queue collate "C" and j.kind = p_kind collate "C" and j.priority = p_priority
                   and j.position > p_cursor and j.run_at is null
                 order by j.position desc
                 limit p_limit) n
         where n.ready_at > p_since and n.lease = 0 and n.moved_from is null);
    v_ids := array(
        select j.id from breakwater.job j
         where j.id = any (v_ids) and num_nulls(j.run_at) = 1 and j.moved_from is null
           for no key update skip locked);
    if v_ids = '{}' then
        return null;
    end if;
    update breakwater.job j set moved_from = p_lane where j.id = any (v_ids);
    v_lease := nextval('breakwater.lease');
    insert into breakwater.claim (lease, worker, lane, last, floor, jobs)
    values (v_lease, p_worker, p_lane, p_cursor, p_floor, v_ids);
    select t.* into v_jobs from breakwater.jobs_of_claim(v_ids, v_lease, null, p_circuit_key, p_generation, false) t;
    return v_jobs;
end
$$;

-- How many of these payloads a claim with a limit of p_bytes bytes takes. It ends with the payload that reaches the
-- limit.
create function breakwater.count_within(p_payloads text[], p_bytes integer) returns integer
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    v_left bigint := p_bytes;
begin
    for i in 1 .. cardinality(p_payloads) loop
        v_left := v_left - octet_length(p_payloads[i]);
        if v_left <= 0 then
            perform breakwater.check_payloads(p_payloads[1:i]);
            return i;
        end if;
    end loop;
    return cardinality(p_payloads);
end
$$;

-- Refuses payloads that are too long for a worker. Each one is checked only if all of them together are too long.
create function breakwater.check_payloads(p_payloads text[]) returns void
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    v_longest integer;
begin
    if pg_column_size(p_payloads) <= breakwater.longest_payload() then
        return;
    end if;
    select max(octet_length(p)) into v_longest from unnest(p_payloads) p;
    if v_longest > breakwater.longest_payload() then
        raise exception 'a payload has % bytes as text, and a worker takes at most %', v_longest,
            breakwater.longest_payload() using errcode = 'program_limit_exceeded';
    end if;
end
$$;

-- The most bytes of a payload's text: 64 MB.
create function breakwater.longest_payload() returns integer
language sql immutable set search_path = pg_catalog, pg_temp
return 67108864;

-- Jobs in the form in which they are sent to their worker. Each job's circuit is that of its key, or the given one. The
-- given one is for probes, which count for the circuit that let them through.
create function breakwater.jobs_of_claim(
    p_ids bigint[], p_lease bigint, p_key_path text[], p_circuit_key text, p_generation bigint, p_is_probe boolean
) returns setof breakwater.claimed_jobs
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_jobs breakwater.claimed_jobs;
begin
    for v_jobs in
        select j.queue::text, j.kind::text, j.priority, p_lease, p_is_probe, array_agg(j.id), array_agg(j.position),
               array_agg(j.payload::text), array_agg(j.attempt + 1), array_agg(j.handed_back), array_agg(j.max_attempts),
               array_agg(j.enqueued_at),
               array_agg(date_part('epoch', now() - j.ready_at)), array_agg(j.ctid),
               array_agg(j.traceparent), array_agg(j.tracestate),
               case when p_key_path is null then array[p_circuit_key] else array_agg(j.key) end,
               case when p_key_path is null then array[p_generation]
                    -- The inner CASE is for jobs without keys: arguments of an aggregate are evaluated in any case.
                    else array_agg(case when p_key_path is not null then breakwater.generation_of(j.kind, j.key) end) end
          from (select j.*, j.ctid, case when p_key_path is not null then breakwater.key_of(j.payload, p_key_path) end as key
                  from breakwater.job j
                 where j.id = any (p_ids)
                 order by j.queue, j.kind, j.priority, j.position) j
         group by j.queue, j.kind, j.priority
    loop
        perform breakwater.check_payloads(v_jobs.payloads);
        return next v_jobs;
    end loop;
end
$$;

-- Of the jobs found in a lane, returns those that may run, at most p_limit, in their order. Jobs of a key whose circuit
-- is not closed are parked, out of the lane; jobs beyond their handler's max_age are dead-lettered.
--
-- Locks: the jobs that it parks or ends; and FOR SHARE, the rows of the circuits for which it parks jobs. So such a
-- circuit cannot close before other sessions see the parked jobs. Both by SKIP LOCKED. Jobs that another session has
-- locked, and jobs whose circuit is just changing, are left for a later claim.
create function breakwater.park_or_expire(p_kind text, p_ids bigint[], p_key_path text[], p_limit integer)
returns bigint[]
language plpgsql set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
declare
    v_max_age interval := (select h.max_age from breakwater.handler h where h.kind = p_kind collate "C");
    v_ids     bigint[] := p_ids;
    v_expired bigint[];
    v_keys    text[];
    v_stopped text[];
    v_locked  text[];
begin
    if v_max_age is not null then
        v_expired := array(select j.id from breakwater.job j
                            where j.id = any (v_ids) and j.enqueued_at < breakwater.clock() - v_max_age);
        perform breakwater.dead_letter_job(i, 'expired', null)
           from unnest(array(select j.id from breakwater.job j
                              where j.id = any (v_expired) and (num_nulls(j.run_at) = 1 or j.rule is not null)
                              order by j.position for update skip locked)) i;
        v_ids := array(select i from unnest(v_ids) i where i <> all (v_expired));
    end if;

    if p_key_path is not null then
        v_keys := array(select (select breakwater.key_of(j.payload, p_key_path) from breakwater.job j where j.id = i.id)
                          from unnest(v_ids) with ordinality i(id, place) order by i.place);
        v_stopped := array(select c.key from breakwater.circuit c
                            where c.kind = p_kind collate "C" and c.key <> '' and c.state <> 'closed'
                              and c.key = any (v_keys));
        if v_stopped <> '{}' then
            v_locked := array(select c.key from breakwater.circuit c
                               where c.kind = p_kind collate "C" and c.key = any (v_stopped) and c.state <> 'closed'
                                 for share skip locked);
            -- The jobs are chosen by id alone, so that the planner has nothing to join.
            update breakwater.job j
               set run_at = 'infinity', parked = v_keys[array_position(v_ids, j.id)], rule = null, rule_key = null,
                   order_key = coalesce(j.order_key, breakwater.order_key_of(j.kind, j.payload))
             where j.id = any (array(
                   select o.id from breakwater.job o
                    where o.id = any (array(select a.id from unnest(v_ids, v_keys) a(id, key)
                                             where a.key = any (v_locked)))
                      and (num_nulls(o.run_at) = 1 or o.rule is not null)
                      for update skip locked));
        end if;
    end if;

    return array(
        select i.id from unnest(v_ids, v_keys) with ordinality i(id, key, place)
         where i.id is not null and (i.key is null or v_stopped is null or i.key <> all (v_stopped))
         order by i.place
         limit p_limit);
end
$$;

-- For claims from outside the lanes (probes, suspects, test shots): of some jobs of a kind, those that its rules let
-- start, and records them as started under a lease. Jobs that a rule stops are left where they are.
-- Locks: the table of rules against changes, by NOWAIT, and the rules, by SKIP LOCKED.
create function breakwater.start_by_rules(p_kind text, p_ids bigint[], p_lease bigint, p_worker bigint) returns bigint[]
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_rules  bigint[];
    v_states breakwater.rule_state[];
    v_most   integer;
    v_ids    bigint[];
begin
    if p_ids = '{}'
       or not exists (select from breakwater.handler h where h.kind = p_kind collate "C")
          and not exists (select from breakwater.flow_rule)
    then
        return p_ids;
    end if;
    -- These claims lock no lane. So changes of rules wait for them by this lock, and while rules change, nothing
    -- starts.
    begin
        lock table breakwater.flow_rule in row exclusive mode nowait;
    exception when lock_not_available then
        return '{}';
    end;
    select h.rules into v_rules from breakwater.handler h where h.kind = p_kind collate "C";
    if not found then
        return '{}';
    elsif v_rules is null then
        return p_ids;
    end if;
    v_states := breakwater.lock_rules(v_rules);
    if v_states is null then
        return '{}';
    end if;
    v_most := (select s.permits from breakwater.free_starts(v_states, p_worker, cardinality(p_ids), 1000000, p_kind) s);
    v_ids := (select c.chosen from breakwater.choose(v_states, p_kind, p_ids, '{}', greatest(v_most, 0), false) c);
    if v_ids <> '{}' then
        perform breakwater.record_starts(v_states, p_kind, p_lease, v_ids);
    end if;
    return v_ids;
end
$$;
