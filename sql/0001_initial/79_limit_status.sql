-- What limits, ordered keys and shares hold back, and why.

-- The newest log row of a rule, for reading: nothing is locked.
create function breakwater.state_of_rule(p_rule breakwater.flow_rule) returns breakwater.rule_state
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_log   breakwater.rule_claim;
    v_state breakwater.rule_state;
begin
    select * into v_log from breakwater.rule_claim c where c.rule = (p_rule).id order by c.number desc limit 1;
    v_state.rule := p_rule;
    v_state.leases := coalesce(v_log.leases, breakwater.claims_of_rule((p_rule).id));
    v_state.due_at := v_log.due_at;
    return v_state;
end
$$;

-- A limit in words, such as `5 at once, 10/s`.
create function breakwater.limit_in_words(p_concurrency integer, p_rate double precision) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
    select concat_ws(', ', p_concurrency || ' at once',
                     case when p_rate >= 0.995 then round(p_rate::numeric, 2)::float8 || '/s'
                          when p_rate >= 0.995 / 60 then round((p_rate * 60)::numeric, 2)::float8 || '/min'
                          when p_rate >= 0.995 / 3600 then round((p_rate * 3600)::numeric, 2)::float8 || '/h'
                          when p_rate is not null then round((p_rate * 86400)::numeric, 2)::float8 || '/d' end)
$$;

-- What a rule allows, in words.
create function breakwater.rule_in_words(p_rule breakwater.flow_rule) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select case (p_rule).type
           when 'order' then 'one at a time, in order'
           when 'share' then 'fair shares'
           when 'adapt' then format('%s at once now (%s to %s, as the dependency takes)', breakwater.adapted_concurrency(p_rule),
                                    (p_rule).least, (p_rule).concurrency)
           else breakwater.limit_in_words((p_rule).concurrency, (p_rule).rate)
           end
$$;

-- A time in words: `80 ms`, `4.2 s`, `3 min`.
create function breakwater.seconds_in_words(p_seconds double precision) returns text
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
as $$
    select case when p_seconds < 1 then ceil(p_seconds * 1000) || ' ms'
                when p_seconds < 120 then round(p_seconds::numeric, 1) || ' s'
                when p_seconds < 7200 then round(p_seconds / 60) || ' min'
                else round(p_seconds / 3600) || ' h' end
$$;

-- Why a rule of its kind lets a job not start now, in words; null if none stops it. A job that a rule holds back is
-- judged by that rule, another job by the limits without a key.
create function breakwater.why_held_back(p_job breakwater.job) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_rule  breakwater.flow_rule;
    v_state breakwater.rule_state;
    v_name  text;
    v_held  bigint;
    v_other record;
    v_halt  breakwater.halted_key;
    v_starts record;
begin
    for v_rule in
        select r.* from breakwater.handler h join breakwater.flow_rule r on r.id = any (h.rules)
         where h.kind = (p_job).kind
           and case when (p_job).rule is not null then r.id = (p_job).rule else r.type in ('limit', 'adapt') and r.key_path is null end
         order by r.id
    loop
        v_state := breakwater.state_of_rule(v_rule);
        v_name := case when (p_job).rule_key = '' then format('jobs without %s', v_rule.key_path[cardinality(v_rule.key_path)])
                       else format('%s %s', v_rule.key_path[cardinality(v_rule.key_path)], (p_job).rule_key) end;
        if v_rule.type = 'share' then
            return format('its turn among the tenants has not come: %s runs %s jobs', v_name,
                          (select count(*) from breakwater.held_under(v_state, array[(p_job).rule_key])));
        elsif v_rule.type = 'order' then
            select * into v_halt from breakwater.halted_key b
             where b.kind = (p_job).kind and b.key = (p_job).rule_key order by b.since limit 1;
            if found then
                return format('%s is halted since %s, because job %s died: redrive or purge that dead letter', v_name,
                              v_halt.since, v_halt.dead_letter);
            end if;
            select h.job, c.claimed_at into v_other
              from breakwater.held_under(v_state, array[(p_job).rule_key]) h join breakwater.claim c on c.lease = h.lease limit 1;
            if found then
                return format('%s runs another job, %s, since %s', v_name, v_other.job, v_other.claimed_at);
            end if;
            select j.id, j.run_at into v_other from breakwater.job j
             where j.kind = (p_job).kind and j.order_key = (p_job).rule_key and j.id < (p_job).id order by j.id limit 1;
            if found then
                return format('%s waits for its job %s%s', v_name, v_other.id,
                              case when v_other.run_at < 'infinity' then format(', which runs again at %s', v_other.run_at) end);
            end if;
            return format('%s is free again: the job runs in a moment', v_name);
        end if;
        if v_rule.key_path is null then
            v_name := 'the kind';
        else
            v_rule := breakwater.rule_of_key(v_rule, (p_job).rule_key);
        end if;
        if v_rule.type = 'adapt' then
            v_rule.concurrency := breakwater.adapted_concurrency(v_rule);
        end if;
        if v_rule.concurrency is not null then
            select coalesce(sum(h.weight), 0) into v_held
              from breakwater.held_under(v_state, case when v_rule.key_path is not null then array[(p_job).rule_key] end) h;
            if v_held >= v_rule.concurrency then
                return format('the %s ''%s'' lets %s run at once%s, and %s run',
                              case v_rule.type when 'adapt' then 'adaptive limit of' else 'limit' end, v_rule.name,
                              v_rule.concurrency,
                              case when v_rule.key_path is not null then ' of ' || v_name else '' end, v_held);
            end if;
        end if;
        if v_rule.rate is not null then
            select a.* into v_starts
              from breakwater.starts_allowed(
                   v_rule,
                   case when v_rule.key_path is null then v_state.due_at
                        else (select k.due_at from breakwater.key_clock k
                               where k.rule = v_rule.id and k.key = (p_job).rule_key
                               order by k.number desc limit 1) end,
                   breakwater.paused_until(v_rule.id, coalesce((p_job).rule_key, '')), clock_timestamp()) a;
            if v_starts.starts = 0 then
                return format('the limit ''%s'' lets %s start%s: free in %s', v_rule.name, breakwater.rule_in_words(v_rule),
                              case when v_rule.key_path is not null then ' of ' || v_name else '' end,
                              breakwater.seconds_in_words(v_starts.wait + 0.05));
            end if;
        end if;
        if v_rule.key_path is not null then
            return format('the limit ''%s'' lets %s run again: the job runs in a moment', v_rule.name, v_name);
        end if;
    end loop;
    return null;
end
$$;

-- How many more jobs of a kind its limits without a key let start now; null: no such limit binds.
create function breakwater.starts_left(p_kind text) returns bigint
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_rule  breakwater.flow_rule;
    v_state breakwater.rule_state;
    v_left  bigint;
begin
    for v_rule in
        select r.* from breakwater.handler h join breakwater.flow_rule r on r.id = any (h.rules)
         where h.kind = p_kind collate "C" and r.type in ('limit', 'adapt') and r.key_path is null
    loop
        v_state := breakwater.state_of_rule(v_rule);
        if v_rule.type = 'adapt' then
            v_rule.concurrency := breakwater.adapted_concurrency(v_rule);
        end if;
        if v_rule.concurrency is not null then
            v_left := least(v_left, greatest(0, v_rule.concurrency - coalesce(
                (select sum(h.weight) from breakwater.held_under(v_state) h), 0)));
        end if;
        if v_rule.rate is not null then
            v_left := least(v_left, (select a.starts from breakwater.starts_allowed(
                v_rule, v_state.due_at, breakwater.paused_until(v_rule.id, ''), clock_timestamp()) a));
        end if;
    end loop;
    return v_left;
end
$$;

-- How many jobs of a kind a rule holds back, counted up to a cap: those that wait for a key or, for a limit without a
-- key that is used up, those that are ready.
create function breakwater.held_back_by(p_rule breakwater.flow_rule, p_kinds text[], p_cap integer default 10000) returns bigint
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_bitmapscan = off
as $$
begin
    if (p_rule).key_path is not null then
        return (select count(*)
                  from (select from unnest(p_kinds) k(kind)
                         cross join lateral (
                               select from breakwater.job j where j.kind = k.kind collate "C" and j.rule = (p_rule).id
                                limit p_cap) j
                         limit p_cap) t);
    end if;
    return (select coalesce(sum(b.waiting), 0)
              from breakwater.waiting_behind(p_kinds, array_fill(''::text, array[cardinality(p_kinds)]), p_cap) b
             where cardinality(p_kinds) > 0 and breakwater.starts_left(b.kind) = 0);
end
$$;

-- The limits, ordered keys and shares: what each allows, what runs under it, and what it holds back (counted up to
-- 10,000 jobs for each kind).
create view breakwater.limit_status as
select r.name, r.type, k.kinds,
       '$.' || array_to_string(r.key_path, '.') as key,
       r.concurrency, r.rate, r.burst, '$.' || array_to_string(r.weight_path, '.') as weight, r.on_dead,
       breakwater.rule_in_words(r) as allows,
       case when r.has_key_limits then (select count(*) from breakwater.key_limit o where o.name = r.name) else 0 end as key_limits,
       u.running, u.keys as keys_running,
       breakwater.held_back_by(r, k.kinds) as held_back,
       case when r.type = 'order' then (select count(*) from breakwater.halted_key b where b.kind = r.name) end as halted_keys,
       breakwater.paused_until(r.id, '') as paused_until,
       r.source, r.configured is not null and r.source = 'operator' as overrides_configuration,
       r.actor, r.reason, r.updated_at
  from breakwater.flow_rule r
 cross join lateral (select breakwater.kinds_of_rule(r) as kinds) k
 cross join lateral (select coalesce(sum(h.weight), 0)::bigint as running, count(distinct h.key) filter (where r.key_path is not null) as keys
                       from breakwater.held_under(breakwater.state_of_rule(r)) h) u;
