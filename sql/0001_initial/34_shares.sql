-- Fair shares: the slots of a kind are shared evenly, or by weight, among the tenants that have waiting jobs.
--
-- Claims take the jobs of such a kind out of their lanes in portions and hold them back under their tenants (see
-- 34_held_back.sql). So a claim sees the tenants behind a long backlog of one of them. It then gives each free slot to
-- the tenant that holds the fewest slots for its weight (max-min fairness), and, within a tenant, to its first job by
-- priority and age. A claim that may start a whole portion, while no tenant waits, starts it without holding it back.

-- How many jobs a claim takes out of a lane to hold them back.
create function breakwater.share_portion() returns integer
language plpgsql immutable parallel safe
as $$
begin
    return 500;
end
$$;

-- Holds back jobs of a lane under their tenants, and gives each tenant a turn.
create function breakwater.hold_back_for_shares(p_states breakwater.rule_state[], p_kind text, p_ids bigint[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_state breakwater.rule_state;
    v_keys  text[];
    v_order_keys text[];
begin
    foreach v_state in array p_states loop
        if (v_state.rule).type = 'order' then
            v_order_keys := (breakwater.keys_of_jobs(v_state.rule, p_ids)).keys;
        end if;
    end loop;
    foreach v_state in array p_states loop
        continue when (v_state.rule).type <> 'share';
        v_keys := (breakwater.keys_of_jobs(v_state.rule, p_ids)).keys;
        continue when v_keys is null;
        perform breakwater.hold_back(v_state.rule, p_kind, p_ids, v_keys, p_ids, v_order_keys);
        insert into breakwater.share_turn (rule, key)
        select (v_state.rule).id, k.key from unnest(v_keys) with ordinality k(key, place) group by k.key order by min(k.place)
        on conflict do nothing;
    end loop;
end
$$;

-- Takes jobs of a kind out of the lanes from which a worker claims, a portion of each, and holds them back under their
-- tenants. Locks: the lanes, by SKIP LOCKED.
create function breakwater.hold_back_lanes(
    p_worker bigint, p_states breakwater.rule_state[], p_kind text, p_queues text[], p_kinds text[], p_priorities smallint[],
    p_slots integer[], p_late boolean, p_bytes integer
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_lane   record;
    v_newest breakwater.claim;
    v_late   breakwater.late_jobs;
begin
    for v_lane in
        select l.*, a as row
          from (select array_agg(g.queue order by g.place) as queues, array_agg(g.kind order by g.place) as kinds,
                       array_agg(g.priority order by g.place) as priorities, array_agg(g.slot order by g.place) as slots
                  from unnest(p_queues, p_kinds, p_priorities, p_slots) with ordinality g(queue, kind, priority, slot, place)
                 where g.kind = p_kind) g
         cross join lateral breakwater.claimable_lanes(p_worker, g.queues, g.kinds, g.priorities, g.slots, p_late) l
          join breakwater.lane a on a.id = l.id
         where l.has_jobs or l.has_gap
    loop
        v_late := null;
        if p_late and v_lane.has_gap then
            v_late := breakwater.find_late(
                v_lane.id, v_lane.queue, v_lane.kind, v_lane.priority, v_lane.floor, v_lane.cursor,
                breakwater.share_portion());
        end if;
        perform from breakwater.lane a where a.id = v_lane.id for update skip locked;
        continue when not found;
        v_newest := breakwater.newest_claim(v_lane.row);
        perform breakwater.claim_with_care(
            p_worker, v_lane.id, v_lane.queue, v_lane.kind, v_lane.priority, nextval('breakwater.lease'), v_newest.last,
            v_newest.floor, v_late, breakwater.share_portion(), p_bytes, v_lane.key_path, v_lane.is_filtered,
            v_lane.circuit_kind, v_lane.circuit_key, v_lane.generation, false, p_states, true);
        if v_newest.jobs = '{}' then
            perform breakwater.delete_ended_claim(v_newest.lease, v_lane.id);
        end if;
    end loop;
end
$$;

-- The next jobs of the tenants, at most p_limit, which the caller has not taken yet. The jobs are locked.
--
-- At most 64 tenants, or as many as there are slots, are looked at. If there are more, those that get or hold slots,
-- and those without a job for these queues, go to the end of the line.
create function breakwater.next_of_shares(
    p_share breakwater.rule_state, p_kind text, p_queues text[], p_taken bigint[], p_limit integer
) returns bigint[]
language plpgsql set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off set enable_sort = on
as $$
declare
    v_kind   text collate "C" := p_kind;
    v_rule   breakwater.flow_rule := (p_share).rule;
    v_turns  bigint[];
    v_tenants text[];
    v_held   bigint[];
    v_held_keys text[];
    v_ids    bigint[];
    v_keys   text[];
    v_locked bigint[];
    v_idle   text[];
    v_waiting text[];
begin
    select array_agg(t.id), array_agg(t.key) into v_turns, v_tenants
      from (select t.id, t.key from breakwater.share_turn t where t.rule = v_rule.id
             order by t.id limit greatest(64, p_limit)) t;
    if v_turns is null then
        return '{}';
    end if;
    select coalesce(array_agg(h.job), '{}'), coalesce(array_agg(h.key), '{}') into v_held, v_held_keys
      from breakwater.held_under(p_share) h;
    -- The first jobs of each tenant: as many as it could get.
    select coalesce(array_agg(w.id), '{}'), coalesce(array_agg(w.key), '{}') into v_ids, v_keys
      from (select k.key, j.id
              from unnest(v_tenants) k(key)
             cross join lateral (
                   select j.id from breakwater.job j
                    where j.kind = v_kind and j.rule = v_rule.id and j.rule_key = k.key collate "C"
                      and j.run_at = 'infinity' and j.queue = any (p_queues)
                      and j.id not in (select h from unnest(v_held) h) and j.id not in (select t from unnest(p_taken) t)
                    order by j.priority, j.id
                    limit greatest(1, ceil(2.0 * p_limit / cardinality(v_tenants)))::integer) j) w;
    v_waiting := v_keys;
    -- A tenant without such a job leaves the line, unless its jobs are in queues of other workers.
    v_idle := array(
        select k.key from unnest(v_tenants) k(key)
         where k.key not in (select v from unnest(v_keys) v)
           and (select j.id from breakwater.job j
                 where j.kind = v_kind and j.rule = v_rule.id and j.rule_key = k.key collate "C"
                   and j.id not in (select h from unnest(v_held) h)
                   and j.id not in (select t from unnest(p_taken) t)
                 limit 1) is null);
    delete from breakwater.share_turn t where t.rule = v_rule.id and t.key = any (v_idle);
    v_locked := array(
        select j.id from breakwater.job j
         where j.id = any (v_ids) and j.run_at = 'infinity' and j.rule + 0 = v_rule.id
           for no key update skip locked);
    select coalesce(array_agg(t.id order by t.share, t.id), '{}'), array_agg(t.key) into v_ids, v_keys
      from (select t.id, t.key, t.share
          from (select c.id, c.key,
                       (coalesce(h.slots, 0) + row_number() over (partition by c.key order by c.number))
                       / coalesce((select w.weight from breakwater.share_weight w
                                    where w.kind = v_kind and w.key = c.key collate "C"), 1) as share
                  from (select u.id, u.key, u.number from unnest(v_ids, v_keys) with ordinality u(id, key, number)
                         where u.id in (select l from unnest(v_locked) l)) c
                  left join (select s.key, count(*) as slots
                               from (select k.key from unnest(v_held_keys) k(key)
                                     union all
                                     select k.key from unnest((breakwater.keys_of_jobs(v_rule, p_taken)).keys) k(key)) s
                              group by s.key) h on h.key = c.key) t
         order by t.share, t.id
         limit p_limit) t;
    if cardinality(v_turns) >= greatest(64, p_limit) then
        with moved as (
            delete from breakwater.share_turn t
             where t.rule = v_rule.id and t.id = any (v_turns)
               and (t.key in (select k from unnest(v_keys) k) or t.key in (select k from unnest(v_held_keys) k)
                    or t.key not in (select k from unnest(v_waiting) k))
            returning t.id, t.key
        )
        insert into breakwater.share_turn (rule, key) select v_rule.id, m.key from moved m order by m.id;
    end if;
    return v_ids;
end
$$;

-- Takes the tenants of some jobs, which a claim is about to take, out of the line if they have no other job that waits.
create function breakwater.end_turns(p_share breakwater.rule_state, p_kind text, p_ids bigint[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
declare
    v_kind text collate "C" := p_kind;
    v_rule bigint := ((p_share).rule).id;
    v_keys text[] := (breakwater.keys_of_jobs((p_share).rule, p_ids)).keys;
    v_held bigint[] := array(select h.job from breakwater.held_under(p_share, v_keys) h) || p_ids;
begin
    delete from breakwater.share_turn t
     where t.rule = v_rule and t.key = any (v_keys)
       and (select j.id from breakwater.job j
             where j.kind = v_kind and j.rule = v_rule and j.rule_key = t.key
               and j.id not in (select h from unnest(v_held) h)
             limit 1) is null;
end
$$;

-- Sets the weight of a tenant in the fair shares of a kind: with weight 2 it gets twice the slots of one with weight 1,
-- which is that of tenants without a weight. null removes it.
create function breakwater.set_share_weight(
    kind text, tenant text, weight double precision, reason text default null, actor text default session_user
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if coalesce(octet_length(set_share_weight.kind), 0) not between 1 and 200 or set_share_weight.tenant is null then
        raise exception 'a weight needs a kind and a tenant' using errcode = '22023';
    elsif set_share_weight.weight <= 0 or set_share_weight.weight > 1000000 or set_share_weight.weight = 'NaN' then
        raise exception 'the weight % of the tenant % is not above 0 and at most 1000000', set_share_weight.weight,
            quote_literal(left(tenant, 100))
            using errcode = '22023';
    end if;
    delete from breakwater.share_weight w
     where w.kind = set_share_weight.kind collate "C"
       and w.key = breakwater.key_of(jsonb_build_object('k', set_share_weight.tenant), '{k}') collate "C";
    if set_share_weight.weight is not null then
        insert into breakwater.share_weight (kind, key, weight, actor)
        values (set_share_weight.kind, breakwater.key_of(jsonb_build_object('k', set_share_weight.tenant), '{k}'),
                set_share_weight.weight, set_share_weight.actor);
    end if;
    perform breakwater.record_action(
        set_share_weight.actor, 'share.weight', set_share_weight.kind, set_share_weight.reason,
        jsonb_build_object('tenant', left(set_share_weight.tenant, 200), 'weight', set_share_weight.weight));
end
$$;
