-- Flow control: how many jobs the rules of a kind let start, and which.
--
-- A rule is a limit, the order of keys, or a fair share (see 14_flow_tables.sql). A claim checks the rules of its kind
-- after it has locked the lane: it locks the rules, counts the jobs that are held under each, chooses jobs that all
-- rules let through, and records the claim in each rule's log. Because the count is taken from the claims themselves,
-- nothing has to be given back when a job ends or a worker is lost.

-- A rule that a claim has locked, with the newest row of its log.
create type breakwater.rule_state as (
    rule   breakwater.flow_rule,
    -- The claims that may hold jobs of the rule.
    leases bigint[],
    due_at timestamptz,
    number bigint
);

-- For how many starts a job counts: the number at a path of its payload, rounded up, but at least 1, and at most
-- p_most, so that every job can run at some time.
create function breakwater.weight_of(p_payload jsonb, p_path text[], p_most integer) returns integer
language sql immutable parallel safe
return case when p_path is not null and jsonb_typeof(p_payload #> p_path) = 'number'
            then least(greatest(ceil((p_payload #>> p_path)::numeric), 1), p_most)::integer else 1 end;

-- The largest weight that a rule counts.
create function breakwater.most_weight(p_rule breakwater.flow_rule) returns integer
language sql immutable parallel safe
return least(coalesce((p_rule).concurrency, 1000000), coalesce((p_rule).burst, 1000000));

-- A rule as it is for one key: with the values of breakwater.key_limit, if the key has some.
create function breakwater.rule_of_key(p_rule breakwater.flow_rule, p_key text) returns breakwater.flow_rule
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    v_rule breakwater.flow_rule := p_rule;
    v_own  breakwater.key_limit;
begin
    if (p_rule).has_key_limits then
        select * into v_own from breakwater.key_limit k
         where k.name = (p_rule).name and k.key = p_key collate "C";
        if found then
            v_rule.concurrency := v_own.concurrency;
            v_rule.rate := v_own.rate;
            v_rule.burst := v_own.burst;
        end if;
    end if;
    return v_rule;
end
$$;

-- The largest weight that a rule counts for a key.
create function breakwater.most_weight_of_key(p_rule breakwater.flow_rule, p_key text) returns integer
language sql stable set search_path = pg_catalog, pg_temp
return breakwater.most_weight(breakwater.rule_of_key(p_rule, p_key));

-- Locks rules, and returns them in the order of the ids; null if another claim has locked one of them.
-- Locks: the rules, by SKIP LOCKED.
create function breakwater.lock_rules(p_rules bigint[]) returns breakwater.rule_state[]
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_rules  breakwater.flow_rule[];
begin
    v_rules := array(select r from breakwater.flow_rule r where r.id = any (p_rules) order by r.id for update skip locked);
    if cardinality(v_rules) < cardinality(p_rules) then
        return null;
    end if;
    -- The logs are read only now, because another claim may have committed before the rules were free.
    return array(
        select row(r.rule,
                   -- Claims that have ended are left out.
                   array(select l.lease from unnest(coalesce(c.leases, breakwater.claims_of_rule((r.rule).id))) l(lease)
                          where exists (select from breakwater.claim k where k.lease = l.lease and k.jobs <> '{}')),
                   c.due_at, coalesce(c.number, 0))::breakwater.rule_state
          from (select v as rule from unnest(v_rules) v) r
          left join lateral (select * from breakwater.rule_claim c where c.rule = (r.rule).id
                              order by c.number desc limit 1) c on true
         order by array_position(p_rules, (r.rule).id));
end
$$;

-- All claims that may hold jobs of a rule. This is for rules that have no log yet, since it reads all claims.
create function breakwater.claims_of_rule(p_rule bigint) returns bigint[]
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select c.lease from breakwater.claim c
          left join breakwater.lane a on a.id = c.lane
         where c.jobs <> '{}'
           and (a.id is null or exists (select from breakwater.handler h where h.kind = a.kind and p_rule = any (h.rules)))
         order by c.lease);
end
$$;

-- The jobs that are held under a rule, with the rule's key. With p_keys, only jobs of these keys.
create function breakwater.held_under(p_state breakwater.rule_state, p_keys text[] default null)
returns table (job bigint, lease bigint, worker bigint, key text, weight integer)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    v_rule   bigint := ((p_state).rule).id;
    v_path   text[] := ((p_state).rule).key_path;
    v_weight text[] := ((p_state).rule).weight_path;
    v_most   integer := breakwater.most_weight((p_state).rule);
begin
    return query
    select u.job, u.lease, u.worker, o.key,
           case when v_weight is null then 1
                when ((p_state).rule).has_key_limits
                then breakwater.weight_of(j.payload, v_weight, breakwater.most_weight_of_key((p_state).rule, o.key))
                else breakwater.weight_of(j.payload, v_weight, v_most) end
      from (select l.job, c.lease, c.worker, l.key::text as key, c.lane
              from unnest((p_state).leases) o(lease)
              join breakwater.claim c on c.lease = o.lease
             cross join lateral (select array_position(c.rules, v_rule) as place, cardinality(c.jobs) as jobs) p
             cross join lateral unnest(c.jobs, c.keys[(p.place - 1) * p.jobs + 1 : p.place * p.jobs]) l(job, key)
             where l.job is not null and (p_keys is null or l.key is null or l.key in (select k from unnest(p_keys) k))
            offset 0) u
      join breakwater.job j on j.id = u.job and j.lease < u.lease
     cross join lateral (
           select coalesce(u.key, case when v_path is null then '' else breakwater.key_of(j.payload, v_path) end) as key) o
     where (p_keys is null or u.key is not null or breakwater.key_of(j.payload, v_path) in (select k from unnest(p_keys) k))
       -- A claim from outside the lanes may hold jobs of several kinds.
       and (u.lane is not null
            or exists (select from breakwater.handler h where h.kind = j.kind and v_rule = any (h.rules)));
end
$$;

-- How many jobs of a kind the limits without a key let start, at most p_wanted; and if that is fewer, after how many
-- seconds a worker should ask again.
--
-- While a limit binds, a worker gets no more jobs than it has free slots, because jobs that it only keeps for later
-- would count against the limit.
create function breakwater.free_starts(
    p_states breakwater.rule_state[], p_worker bigint, p_wanted integer, p_concurrency integer, p_kind text,
    out permits integer, out wait double precision
)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_state breakwater.rule_state;
    v_rule  breakwater.flow_rule;
    v_most  bigint;
    v_held  bigint;
    v_own   bigint;
    v_wait  double precision;
begin
    permits := p_wanted;
    foreach v_state in array p_states loop
        v_rule := v_state.rule;
        continue when v_rule.type not in ('limit', 'adapt') or v_rule.key_path is not null;
        if v_rule.type = 'adapt' then
            v_rule.concurrency := breakwater.adapted_concurrency(v_rule);
        end if;
        if v_rule.concurrency is not null then
            -- Usually all jobs that these claims ever held would fit, and none has to be looked up.
            if v_rule.weight_path is null then
                select sum(cardinality(c.jobs)) into v_held
                  from unnest(v_state.leases) l(lease) join breakwater.claim c on c.lease = l.lease;
            end if;
            if v_rule.weight_path is not null or coalesce(v_held, 0) + permits > v_rule.concurrency then
                select coalesce(sum(h.weight), 0), count(*) filter (where h.worker = p_worker and j.kind = p_kind collate "C")
                  into v_held, v_own
                  from breakwater.held_under(v_state) h join breakwater.job j on j.id = h.job;
                v_most := greatest(0, v_rule.concurrency - v_held);
                if v_most < permits then
                    permits := least(v_most, greatest(0, p_concurrency - v_own));
                    wait := greatest(wait, 0.25);
                end if;
            end if;
        end if;
        if v_rule.rate is not null then
            select a.starts, a.wait into v_most, v_wait
              from breakwater.starts_allowed(
                   v_rule, v_state.due_at, breakwater.paused_until(v_rule.id, ''), clock_timestamp()) a;
            if v_most < permits then
                permits := v_most;
                -- Some may start now, and the next one an interval later.
                wait := greatest(wait, case when v_most > 0 then extract(epoch from breakwater.start_interval(v_rule.rate))
                                       else v_wait end);
            end if;
        end if;
    end loop;
end
$$;

-- Chooses jobs of a kind that its rules let start, in the order given, at most p_most. p_taken are the jobs that the
-- same claim takes already. With p_parks, jobs that a key's limit, rate or order stops are held back, so that the claim
-- can pass them (see 34_held_back.sql). `surplus` are jobs that could have started but for p_most or a limit without a
-- key.
create function breakwater.choose(
    p_states breakwater.rule_state[], p_kind text, p_ids bigint[], p_taken bigint[], p_most integer, p_parks boolean,
    out chosen bigint[], out surplus bigint[]
)
language plpgsql set search_path = pg_catalog, pg_temp set enable_sort = on
as $$
declare
    v_state   breakwater.rule_state;
    v_rule    breakwater.flow_rule;
    v_rules   bigint[] := '{}';
    v_order_keys text[];
    v_ordered bigint[];
    v_keys    text[];
    v_weights integer[];
    v_taken_keys text[];
    v_taken_weights integer[];
    v_held_keys text[];
    v_held    bigint[];
    v_blocked bigint[];
    v_blocked_keys text[];
    -- The jobs that a rule stops, with the place of the rule in p_states.
    v_stopped bigint[] := '{}';
    v_stopped_keys text[] := '{}';
    v_stopped_by integer[] := '{}';
    v_number  integer := 0;
    v_cut     bigint;
begin
    chosen := p_ids;
    surplus := '{}';
    foreach v_state in array p_states loop
        v_number := v_number + 1;
        v_rule := v_state.rule;
        continue when v_rule.type = 'share' or chosen = '{}' or (v_rule.key_path is null and v_rule.weight_path is null);
        select t.keys, t.weights into v_keys, v_weights from breakwater.keys_of_jobs(v_rule, chosen) t;
        select t.keys, t.weights into v_taken_keys, v_taken_weights from breakwater.keys_of_jobs(v_rule, p_taken) t;
        if v_rule.type = 'order' then
            v_order_keys := v_keys;
            v_ordered := chosen;
        end if;
        -- What is held for each key, and what this claim takes already.
        select array_agg(t.key), array_agg(t.weight) into v_held_keys, v_held
          from (select h.key, sum(h.weight) as weight
                  from (select u.key, u.weight
                          from breakwater.held_under(v_state, case when v_rule.key_path is not null then v_keys end) u
                         where v_rule.type = 'order' or v_rule.concurrency is not null or v_rule.has_key_limits
                        union all
                        select t.key, t.weight from unnest(v_taken_keys, v_taken_weights) t(key, weight)) h
                 group by h.key) t;
        select coalesce(array_agg(t.id order by t.place) filter (where t.may_start), '{}'),
               coalesce(array_agg(t.id order by t.place) filter (where not t.may_start), '{}'),
               coalesce(array_agg(t.key order by t.place) filter (where not t.may_start), '{}')
          into chosen, v_blocked, v_blocked_keys
          from (select c.id, c.place, c.key,
                       case v_rule.type
                       when 'order' then
                           h.weight is null
                           and c.id = min(c.id) over (partition by c.key)
                           and coalesce((select j.id from breakwater.job j
                                          where j.kind = p_kind collate "C" and j.order_key = c.key collate "C"
                                          order by j.id limit 1) >= c.id, true)
                           and not exists (select from breakwater.halted_key b
                                            where b.kind = p_kind collate "C" and b.key = c.key collate "C")
                       else
                           -- The jobs that run count for the concurrency alone.
                           coalesce(coalesce(h.weight, 0) + sum(c.weight) over (partition by c.key order by c.place)
                                    <= case when o.key is null then v_rule.concurrency else o.concurrency end, true)
                           and (case when o.key is null then v_rule.rate else o.rate end is null
                                or sum(c.weight) over (partition by c.key order by c.place)
                                   <= breakwater.key_starts(v_rule, v_state, c.key))
                       end as may_start
                  from unnest(chosen, v_keys, v_weights) with ordinality c(id, key, weight, place)
                  left join unnest(v_held_keys, v_held) h(key, weight) on h.key = c.key
                  left join breakwater.key_limit o
                    on v_rule.has_key_limits and o.name = v_rule.name and o.key = c.key collate "C") t;
        if v_rule.key_path is null then
            surplus := surplus || v_blocked;
        else
            v_stopped := v_stopped || v_blocked;
            v_stopped_keys := v_stopped_keys || v_blocked_keys;
            v_stopped_by := v_stopped_by || array_fill(v_number, array[cardinality(v_blocked)]);
        end if;
    end loop;
    if cardinality(chosen) > p_most then
        surplus := chosen[p_most + 1:] || surplus;
        chosen := chosen[:p_most];
    end if;
    if not p_parks or v_stopped = '{}' then
        return;
    end if;
    -- Jobs behind the first surplus one stay where they are: no claim has to pass them yet, and held back they would
    -- overtake a surplus job of their key.
    v_cut := (select min(i.place) from unnest(p_ids) with ordinality i(id, place)
               where case when i.id in (select s from unnest(surplus) s) then true end);
    v_number := 0;
    foreach v_state in array p_states loop
        v_number := v_number + 1;
        v_rule := v_state.rule;
        continue when not v_number = any (v_stopped_by);
        select coalesce(array_agg(t.id), '{}'), coalesce(array_agg(t.key), '{}') into v_blocked, v_blocked_keys
          from (select s.id, s.key
                  from unnest(v_stopped, v_stopped_keys, v_stopped_by) s(id, key, number)
                  join unnest(p_ids) with ordinality i(id, place) on i.id = s.id
                 where s.number = v_number and (v_cut is null or i.place < v_cut)) t;
        continue when v_blocked = '{}';
        perform breakwater.hold_back(v_rule, p_kind, v_blocked, v_blocked_keys, v_ordered, v_order_keys);
        -- The keys of the limits that these jobs had passed may let other jobs start instead.
        v_rules := array(select (s.rule).id from unnest(p_states) with ordinality s(rule, leases, due_at, number, place)
                          where s.place < v_number and (s.rule).type = 'limit' and (s.rule).key_path is not null);
        perform breakwater.free_keys_of(p_kind, v_rules, v_blocked);
    end loop;
end
$$;

-- The keys and weights of some jobs under a rule, in the order of the jobs.
create function breakwater.keys_of_jobs(
    p_rule breakwater.flow_rule, p_ids bigint[], out keys text[], out weights integer[]
)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    v_path   text[] := (p_rule).key_path;
    v_weight text[] := (p_rule).weight_path;
    v_most   integer := breakwater.most_weight(p_rule);
begin
    if p_ids = '{}' then
        return;
    end if;
    select array_agg(case when v_path is null then '' else breakwater.key_of(j.payload, v_path) end),
           array_agg(case when v_weight is null then 1 else breakwater.weight_of(j.payload, v_weight, v_most) end)
      into keys, weights
      from unnest(p_ids) i(id)
      left join breakwater.job j on j.id = i.id;
    if (p_rule).has_key_limits and v_weight is not null then
        weights := array(
            select least(w.weight, breakwater.most_weight_of_key(p_rule, w.key))
              from unnest(keys, weights) with ordinality w(key, weight, place) order by w.place);
    end if;
end
$$;

-- How many starts the rate of a key allows by now.
create function breakwater.key_starts(p_rule breakwater.flow_rule, p_state breakwater.rule_state, p_key text) returns bigint
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return (select a.starts
              from (select case when (p_rule).key_path is null then (p_state).due_at
                                else (select k.due_at from breakwater.key_clock k
                                       where k.rule = (p_rule).id and k.key = p_key collate "C"
                                       order by k.number desc limit 1) end as due_at) c
             cross join lateral breakwater.starts_allowed(
                   case when (p_rule).has_key_limits then breakwater.rule_of_key(p_rule, p_key) else p_rule end,
                   c.due_at, breakwater.paused_until((p_rule).id, p_key), clock_timestamp()) a);
end
$$;

-- Records the jobs of a claim in the logs of the rules. `delays` are the seconds after which each job may start; null:
-- all of them at once. `rules` and `keys` belong in the claim's row.
create function breakwater.record_starts(
    p_states breakwater.rule_state[], p_kind text, p_lease bigint, p_ids bigint[],
    out delays double precision[], out rules bigint[], out keys text[]
)
language plpgsql set search_path = pg_catalog, pg_temp set enable_sort = on
as $$
declare
    v_state  breakwater.rule_state;
    v_rule   breakwater.flow_rule;
    v_keys   text[];
    v_weights integer[];
    v_due    timestamptz;
    v_delays double precision[];
begin
    foreach v_state in array p_states loop
        v_rule := v_state.rule;
        v_due := v_state.due_at;
        if v_rule.key_path is not null or v_rule.weight_path is not null then
            select t.keys, t.weights into v_keys, v_weights from breakwater.keys_of_jobs(v_rule, p_ids) t;
        else
            v_weights := array_fill(1, array[cardinality(p_ids)]);
        end if;
        if v_rule.key_path is not null then
            rules := rules || v_rule.id;
            keys := keys || v_keys;
        end if;
        if v_rule.rate is not null or v_rule.has_key_limits then
            if v_rule.key_path is null then
                select t.delays, t.due_at into v_delays, v_due
                  from breakwater.start_times(v_rule, v_due, v_weights) t;
            else
                v_delays := breakwater.start_keys(v_rule, p_kind, v_keys, v_weights);
            end if;
            delays := array(select greatest(d.old, d.new) from unnest(delays, v_delays) with ordinality d(old, new, place)
                             order by d.place);
        end if;
        insert into breakwater.rule_claim (rule, number, leases, due_at)
        values (v_rule.id, nextval('breakwater.rule_claim_number'), v_state.leases || p_lease, v_due);
        delete from breakwater.rule_claim c where c.rule = v_rule.id and c.number = v_state.number;
    end loop;
    if not exists (select from unnest(delays) d where d > 0) then
        delays := null;
    end if;
end
$$;
