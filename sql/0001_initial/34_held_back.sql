-- Jobs that a rule's key holds back. A claim that meets such a job takes it out of its lane: `run_at` is infinity, and
-- `rule` and `rule_key` say what it waits for. So it costs the other jobs nothing. Whatever ends a job of the key adds
-- a row to breakwater.freed_key, and the next claim of the kind takes the key's next job from here, in order.

-- Holds back jobs under a rule. If the kind has ordered keys, p_ordered and p_order_keys are the jobs' keys, which
-- other jobs of these keys then wait for. Locks: the jobs, by SKIP LOCKED. Those that another session has locked are
-- left for a later claim.
create function breakwater.hold_back(
    p_rule breakwater.flow_rule, p_kind text, p_ids bigint[], p_keys text[], p_ordered bigint[], p_order_keys text[]
) returns void
language plpgsql set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
declare
    v_ids bigint[] := array(
        select j.id from breakwater.job j
         where j.id = any (p_ids) and (num_nulls(j.run_at) = 1 or j.rule is not null)
           for no key update skip locked);
    v_now timestamptz := clock_timestamp();
begin
    -- A key for which a job was held back before may let the next job start.
    insert into breakwater.freed_key (kind, rule, keys)
    select h.kind, o.rule, o.keys
      from (select j.rule, array_agg(distinct j.rule_key) as keys from breakwater.job j
             where j.id = any (v_ids) and j.rule + 0 <> (p_rule).id group by j.rule) o
      join breakwater.flow_rule r on r.id = o.rule and r.type <> 'share'
      join breakwater.handler h on o.rule = any (h.rules);
    update breakwater.job j
       set run_at = 'infinity', rule = (p_rule).id, rule_key = b.key, order_key = coalesce(b.order_key, j.order_key)
      from (select i.id, i.key, o.key as order_key
              from unnest(p_ids, p_keys) i(id, key)
              left join unnest(p_ordered, p_order_keys) o(id, key) on o.id = i.id
             where i.id in (select v from unnest(v_ids) v)
            offset 0) b
     where j.id = b.id
       and (j.rule, j.rule_key, j.order_key)
           is distinct from ((p_rule).id, b.key, coalesce(b.order_key, j.order_key));
    -- A rate lets the key's next job start later, without another job ending.
    if (p_rule).rate is not null or (p_rule).has_key_limits then
        insert into breakwater.freed_key (kind, rule, keys, due_at)
        select h.kind, (p_rule).id, array[k.key], v_now + make_interval(secs => greatest(a.wait, 0.01))
          from (select distinct key from unnest(p_keys) key) k
         cross join lateral (select c.due_at from breakwater.key_clock c
                              where c.rule = (p_rule).id and c.key = k.key collate "C"
                              order by c.number desc limit 1) c
         cross join lateral breakwater.rule_of_key(p_rule, k.key) o
         cross join lateral breakwater.starts_allowed(
               o, c.due_at, breakwater.paused_until((p_rule).id, k.key), v_now) a
          join breakwater.handler h on (p_rule).id = any (h.rules)
         where o.rate is not null and a.wait > 0;
    end if;
end
$$;

-- Tells claims that keys of a kind may let a job start.
create function breakwater.free_keys(p_kind text, p_rule bigint, p_keys text[], p_due_at timestamptz default '-infinity')
returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    insert into breakwater.freed_key (kind, rule, keys, due_at)
    select h.kind, p_rule, p_keys, p_due_at
      from breakwater.handler h
     where p_keys <> '{}' and (h.kind = p_kind collate "C" or (p_kind is null and p_rule = any (h.rules)));
end
$$;

-- Does this for the keys that some jobs have under some rules.
create function breakwater.free_keys_of(p_kind text, p_rules bigint[], p_ids bigint[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_rule breakwater.flow_rule;
begin
    for v_rule in select * from breakwater.flow_rule r where r.id = any (p_rules) and r.key_path is not null loop
        perform breakwater.free_keys(
            null, v_rule.id, array(select distinct k from unnest((breakwater.keys_of_jobs(v_rule, p_ids)).keys) k));
    end loop;
end
$$;

-- Does this for runs that ended under some claims, and notifies sleeping workers if jobs are held back for one of the
-- keys. Settling calls it for kinds that have rules with keys.
create function breakwater.free_keys_of_runs(p_ids bigint[], p_leases bigint[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off set enable_sort = on
as $$
declare
    v_freed record;
begin
    for v_freed in
        select h.kind, k.rule, k.keys
          from (select r.rule, array_agg(distinct u.key) as keys
                  from (select distinct l as lease from unnest(p_leases) l) g
                  join breakwater.claim c on c.lease = g.lease and c.rules is not null
                 cross join lateral unnest(c.rules) with ordinality r(rule, place)
                 cross join lateral unnest(c.jobs, c.keys[(r.place - 1) * cardinality(c.jobs) + 1
                                                          : r.place * cardinality(c.jobs)]) u(job, key)
                 -- The CASE keeps the planner from joining.
                 where case when u.job in (select i from unnest(p_ids) i) then true end
                 group by r.rule) k
          join breakwater.handler h on k.rule = any (h.rules)
         order by h.kind, k.rule
    loop
        insert into breakwater.freed_key (kind, rule, keys) values (v_freed.kind, v_freed.rule, v_freed.keys);
        if exists (select from unnest(v_freed.keys) k(key)
                    -- With the limit, each key is looked up in the index.
                    cross join lateral (
                          select from breakwater.job j
                           where j.kind = v_freed.kind and j.rule = v_freed.rule and j.rule_key = k.key collate "C"
                           limit 1) w) then
            perform breakwater.wake(array[v_freed.kind]);
        end if;
    end loop;
end
$$;

-- Does this for a job that is about to leave its kind, or that has ended, while others may wait for it.
create function breakwater.free_keys_of_job(p_job breakwater.job) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_rule breakwater.flow_rule;
begin
    for v_rule in
        select r.* from breakwater.handler h join breakwater.flow_rule r on r.id = any (h.rules)
         where h.kind = (p_job).kind and r.key_path is not null and r.type <> 'share'
    loop
        perform breakwater.free_keys(null, v_rule.id, array[breakwater.key_of((p_job).payload, v_rule.key_path)]);
        perform breakwater.wake(array[(p_job).kind]::text[]);
    end loop;
end
$$;

-- The ordered key of a job; null if its kind has no ordered keys.
create function breakwater.order_key_of(p_kind text, p_payload jsonb) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    v_path text[] := (
        select r.key_path
          from breakwater.handler h
          join breakwater.flow_rule r on r.type = 'order' and r.name = h.kind
         where h.kind = p_kind collate "C" and h.rules is not null);
begin
    return case when v_path is not null then breakwater.key_of(p_payload, v_path) end;
end
$$;

-- Whether a kind has ordered keys.
create function breakwater.is_ordered(p_kind text) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$ select exists (select from breakwater.flow_rule r where r.type = 'order' and r.name = p_kind collate "C") $$;

-- Claims jobs of a kind that were held back and that may run now: those of keys that were freed, and then the next ones
-- of the tenants whose turn it is. Returns a row for each queue and priority.
--
-- Locks: the jobs, by SKIP LOCKED. Its caller has locked the rules.
create function breakwater.claim_held_back(
    p_worker bigint, p_kind text, p_states breakwater.rule_state[], p_queues text[], p_permits integer, p_bytes integer,
    p_key_path text[], p_is_filtered boolean, p_circuit_key text, p_generation bigint
) returns setof breakwater.claimed_jobs
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_ids    bigint[];
    v_taken  bigint[] := '{}';
    v_too_long bigint[];
    v_chosen record;
    v_starts record;
    v_lease  bigint;
    v_jobs   breakwater.claimed_jobs;
    v_share  breakwater.rule_state;
begin
    v_ids := breakwater.take_freed(p_kind, p_states, p_queues, p_permits);
    if v_ids <> '{}' and p_is_filtered then
        v_ids := breakwater.park_or_expire(p_kind, v_ids, p_key_path, cardinality(v_ids));
    end if;
    if v_ids <> '{}' then
        v_chosen := breakwater.choose(p_states, p_kind, v_ids, '{}', p_permits, true);
        v_taken := v_chosen.chosen;
        perform breakwater.free_held_back(v_chosen.surplus);
    end if;
    foreach v_share in array p_states loop
        continue when (v_share.rule).type <> 'share';
        for round in 1..3 loop
            exit when cardinality(v_taken) >= p_permits;
            v_ids := breakwater.next_of_shares(v_share, p_kind, p_queues, v_taken, p_permits - cardinality(v_taken));
            exit when v_ids = '{}';
            if p_is_filtered then
                v_ids := breakwater.park_or_expire(p_kind, v_ids, p_key_path, cardinality(v_ids));
            end if;
            v_chosen := breakwater.choose(p_states, p_kind, v_ids, v_taken, p_permits - cardinality(v_taken), true);
            v_taken := v_taken || v_chosen.chosen;
        end loop;
    end loop;
    if v_taken = '{}' then
        return;
    end if;

    v_lease := nextval('breakwater.lease');
    -- Jobs beyond the limit of bytes wait for the next claim. At least one is taken.
    select array_agg(t.id order by t.place) filter (where t.fits), array_agg(t.id) filter (where not t.fits)
      into v_ids, v_too_long
      from (select t.id, t.place, sum(t.bytes) over (order by t.place) - t.bytes < p_bytes as fits
              from (select i.id, i.place, octet_length(j.payload::text) as bytes
                      from unnest(v_taken) with ordinality i(id, place)
                      join breakwater.job j on j.id = i.id) t) t;
    perform breakwater.free_held_back(v_too_long);
    foreach v_share in array p_states loop
        continue when (v_share.rule).type <> 'share';
        perform breakwater.end_turns(v_share, p_kind, v_ids);
    end loop;
    v_starts := breakwater.record_starts(p_states, p_kind, v_lease, v_ids);
    insert into breakwater.claim (lease, worker, last, floor, jobs, rules, keys)
    values (v_lease, p_worker, 0, 0, v_ids, v_starts.rules, v_starts.keys);
    for v_jobs in
        select t.* from breakwater.jobs_of_claim(v_ids, v_lease, p_key_path, p_circuit_key, p_generation, false) t
    loop
        if v_starts.delays is not null then
            v_jobs.delays := array(
                select d.delay from unnest(v_jobs.ids) with ordinality i(id, place)
                  join unnest(v_ids, v_starts.delays) d(id, delay) on d.id = i.id order by i.place);
        end if;
        return next v_jobs;
    end loop;
end
$$;

-- Takes rows of breakwater.freed_key, and returns jobs that are held back for these keys and that no claim holds, at
-- most as many for each key as the rule may let start. The jobs are locked.
create function breakwater.take_freed(
    p_kind text, p_states breakwater.rule_state[], p_queues text[], p_limit integer
) returns bigint[]
language plpgsql set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off set enable_sort = on
as $$
declare
    v_kind  text collate "C" := p_kind;
    v_now   timestamptz := clock_timestamp();
    v_rules bigint[];
    v_keys  text[];
    v_state breakwater.rule_state;
    v_rule  breakwater.flow_rule;
    v_held  bigint[];
    v_ids   bigint[] := '{}';
    v_far   text[];
    -- Whether the kind has jobs in queues of other workers.
    v_has_far boolean := exists (select from breakwater.lane a where a.kind = v_kind and a.queue <> all (p_queues));
begin
    with taken as (
        delete from breakwater.freed_key f
         where f.id = any (array(
               select t.id
                 from (select n.id, sum(n.keys) over (order by n.due_at, n.id) - n.keys as before
                         from (select f.id, f.due_at, cardinality(f.keys) as keys from breakwater.freed_key f
                                where f.kind = v_kind and f.due_at <= v_now
                                order by f.due_at, f.id limit 500) n) t
                where t.before < 200 + 2 * p_limit))
        returning f.rule, f.keys
    )
    select array_agg(t.rule), array_agg(t.key) into v_rules, v_keys
      from (select distinct f.rule, k.key from taken f cross join lateral unnest(f.keys) k(key)) t;
    if v_keys is null then
        return '{}';
    end if;
    foreach v_state in array p_states loop
        v_rule := v_state.rule;
        continue when v_rule.key_path is null or v_rule.type = 'share' or v_rule.id <> all (v_rules);
        v_held := array(select h.job from breakwater.held_under(v_state) h);
        v_ids := v_ids || array(
            select w.id
              from (select distinct f.key from unnest(v_rules, v_keys) f(rule, key) where f.rule = v_rule.id) k
             cross join lateral (
                   (select j.id, j.queue, j.rule, j.run_at from breakwater.job j
                     where v_rule.type = 'order' and j.kind = v_kind and j.order_key = k.key collate "C"
                     order by j.id limit 1)
                   union all
                   (select j.id, j.queue, j.rule, j.run_at from breakwater.job j
                     where v_rule.type = 'limit' and j.kind = v_kind and j.rule = v_rule.id
                       and j.rule_key = k.key collate "C"
                       and j.id not in (select h from unnest(v_held) h)
                     order by j.priority, j.id
                     limit case when v_rule.has_key_limits
                                then least(breakwater.most_weight_of_key(v_rule, k.key), p_limit + 1)
                                else least(v_rule.concurrency, v_rule.burst, p_limit + 1) end)) w
             where w.rule is not null and w.run_at = 'infinity' and w.queue = any (p_queues)
               and w.id not in (select h from unnest(v_held) h));
        -- Workers of other queues look at the keys a moment later.
        continue when not v_has_far;
        v_far := array(
            select k.key
              from (select distinct f.key from unnest(v_rules, v_keys) f(rule, key) where f.rule = v_rule.id) k
             cross join lateral (
                   select j.queue from breakwater.job j
                    where j.kind = v_kind and j.rule = v_rule.id and j.rule_key = k.key collate "C"
                      and j.id not in (select h from unnest(v_held) h)
                    order by j.priority, j.id limit 1) f
             where f.queue <> all (p_queues));
        perform breakwater.free_keys(p_kind, v_rule.id, v_far, v_now + interval '200 milliseconds');
    end loop;
    return array(
        select l.id
          from (select j.id, j.priority from breakwater.job j
                 where j.id = any (v_ids) and j.run_at = 'infinity' and j.rule + 0 > 0
                   for no key update skip locked) l
         order by l.priority, l.id);
end
$$;

-- Frees the keys for which jobs are held back, so that the next claim looks at them again.
create function breakwater.free_held_back(p_ids bigint[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    insert into breakwater.freed_key (kind, rule, keys)
    select j.kind, j.rule, array_agg(distinct j.rule_key)
      -- With offset 0 the jobs are looked up by their ids.
      from (select o.kind, o.rule, o.rule_key from breakwater.job o where o.id = any (p_ids) offset 0) j
      join breakwater.flow_rule r on r.id = j.rule and r.type <> 'share'
     group by j.kind, j.rule;
end
$$;

-- Ends the halts of ordered keys whose dead letters were redriven or purged, and lets the keys' next jobs run. Returns
-- how many keys.
create function breakwater.end_halts() returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_count integer;
begin
    with ended as (
        delete from breakwater.halted_key b
         where not exists (select from breakwater.dead_letter d where d.id = b.dead_letter)
        returning b.kind, b.key
    ), freed as (
        insert into breakwater.freed_key (kind, rule, keys)
        select e.kind, r.id, array_agg(distinct e.key)
          from ended e join breakwater.flow_rule r on r.type = 'order' and r.name = e.kind
         group by e.kind, r.id
    )
    select count(*) into v_count from ended;
    return v_count;
end
$$;

-- Pauses the rates of a job's kind, because its dependency asked to wait for some seconds (429 with Retry-After): the
-- rate of its key, or that of all jobs. At most an hour.
create function breakwater.pause_rates(p_job breakwater.job, p_seconds double precision) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    insert into breakwater.rate_pause (rule, key, until)
    select r.id, case when r.key_path is null then '' else breakwater.key_of((p_job).payload, r.key_path) end,
           clock_timestamp() + make_interval(secs => least(p_seconds, 3600))
      from breakwater.handler h join breakwater.flow_rule r on r.id = any (h.rules)
     where h.kind = (p_job).kind and (r.rate is not null or r.has_key_limits) and p_seconds > 0;
end
$$;

-- Searches for jobs that are held back although nothing would free their keys, and frees them: at most p_limit keys,
-- from where the last search ended. A crash, a user's change of a row, or a rule that was changed can leave such jobs.
-- Jobs whose rule does not apply to their kind any more go back to their lanes. Returns how many jobs went back.
create function breakwater.free_forgotten_keys(p_limit integer) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_bitmapscan = off
as $$
declare
    v_at    breakwater.key_search;
    v_key   record;
    v_steps integer := 0;
    v_kind  text;
    v_is_full boolean := false;
    v_ids   bigint[];
    v_count integer := 0;
begin
    perform breakwater.end_halts();
    v_count := breakwater.return_probes();
    delete from breakwater.rate_pause p where p.until < clock_timestamp();
    delete from breakwater.key_clock c
     where c.due_at < clock_timestamp() - interval '1 minute'
       and (c.rule, c.key, c.number) in (select o.rule, o.key, o.number from breakwater.key_clock o limit 10 * p_limit);
    select * into v_at from breakwater.key_search;
    loop
        select j.kind, j.rule, j.rule_key as key, h.rules into v_key
          from breakwater.job j left join breakwater.handler h on h.kind = j.kind
         where j.rule is not null
           and (j.kind, j.rule, j.rule_key) > (coalesce(v_at.kind, ''), coalesce(v_at.rule, 0), coalesce(v_at.key, ''))
         order by j.kind, j.rule, j.rule_key
         limit 1;
        if not found or v_steps >= p_limit then
            delete from breakwater.key_search;
            if v_steps >= p_limit then
                insert into breakwater.key_search (kind, rule, key) values (v_at.kind, v_at.rule, v_at.key);
            end if;
            return v_count;
        end if;
        v_steps := v_steps + 1;
        v_at.kind := v_key.kind;
        v_at.rule := v_key.rule;
        v_at.key := v_key.key;
        if v_key.rule = any (v_key.rules) then
            if (select r.type from breakwater.flow_rule r where r.id = v_key.rule) = 'share' then
                insert into breakwater.share_turn (rule, key) values (v_key.rule, v_key.key) on conflict do nothing;
            else
                -- While no worker takes the rows of a kind, no more are added.
                if v_key.kind is distinct from v_kind then
                    v_kind := v_key.kind;
                    v_is_full := (select count(*) from (select from breakwater.freed_key f where f.kind = v_kind
                                                         limit 1000) f) >= 1000;
                end if;
                if not v_is_full then
                    perform breakwater.free_keys(v_key.kind, v_key.rule, array[v_key.key]);
                end if;
            end if;
        elsif v_key.rules is null or v_key.rule <> all (v_key.rules) then
            v_ids := breakwater.lock_waiting(array(
                select j.id from breakwater.job j
                 where j.kind = v_key.kind and j.rule = v_key.rule and j.rule_key = v_key.key
                 order by j.priority, j.id limit 1000));
            v_count := v_count + breakwater.return_to_lanes(v_ids);
            -- The same key again, until none of its jobs is left.
            v_steps := v_steps + cardinality(v_ids) / 10;
            if v_ids <> '{}' then
                v_at.key := left(v_key.key, -1);
            end if;
        end if;
    end loop;
end
$$;

-- Puts jobs that were held back into their lanes again, in their order. The caller has locked them.
create function breakwater.return_to_lanes(p_ids bigint[]) returns integer
language plpgsql set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
declare
    v_id bigint;
begin
    for v_id in select i from unnest(p_ids) i order by i loop
        update breakwater.job j
           set run_at = null, rule = null, rule_key = null, order_key = breakwater.order_key_of(j.kind, j.payload),
               position = nextval('breakwater.job_position')
         where j.id = v_id and j.rule is not null;
    end loop;
    perform breakwater.wake(array(select distinct j.kind from breakwater.job j where j.id = any (p_ids)));
    return cardinality(p_ids);
end
$$;

-- While a circuit is half-open and no job of its kinds is in a lane, puts some jobs that a rule held back into their
-- lanes again, because probes are chosen there. Returns how many.
create function breakwater.return_probes() returns integer
language plpgsql set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_bitmapscan = off
as $$
declare
    v_kind  text;
    v_count integer := 0;
begin
    for v_kind in
        select h.kind from breakwater.handler h
          join breakwater.circuit c on breakwater.is_circuit_of(c.kind, c.key, h.kind, h.shared_key, '')
         where h.rules is not null and (c.state = 'half_open' or (c.state = 'open' and c.retry_at <= breakwater.clock()))
           and not exists (
               select from breakwater.lane a
                cross join lateral (
                      select from breakwater.job j
                       where j.queue = a.queue and j.kind = a.kind and j.priority = a.priority and j.run_at is null
                       limit 1) f
                where a.kind = h.kind)
    loop
        v_count := v_count + breakwater.return_to_lanes(breakwater.lock_waiting(array(
            select f.id
              from unnest((select h.rules from breakwater.handler h where h.kind = v_kind)) u(rule)
             cross join lateral (
                   select j.id from breakwater.job j
                    where j.kind = v_kind collate "C" and j.rule = u.rule
                    order by j.rule_key, j.priority, j.id limit 20) f)));
    end loop;
    return v_count;
end
$$;
