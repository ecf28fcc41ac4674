-- Adaptive concurrency: a limit that follows what a dependency takes.
--
-- Once a second, the leader compares the latency of a kind's calls with the latency that the dependency has when it is
-- not overloaded (the baseline). While the latency is at most a quarter above it, the limit grows, by at most a fifth;
-- when it is higher, the limit shrinks in proportion. This is the gradient method of TCP Vegas and of Netflix's
-- concurrency-limits. If more than a tenth of the calls are slow, throttled or unavailable, it shrinks by 30 percent
-- (multiplicative decrease). Every thirty steps it is lowered to 60 percent for one step, which measures the baseline
-- again, so that a dependency whose own latency changed is not taken for an overloaded one.

-- The limit of a kind, and what the last steps found.
create type breakwater.adaptation as (
    -- How many jobs may run at once.
    allowed     double precision,
    -- The latency without overload in seconds; null: not measured yet.
    baseline    double precision,
    -- The last step's limit and latency; null: none to compare with.
    last_allowed double precision,
    last_latency double precision,
    -- While the baseline is measured: the limit to go back to.
    resumes_at  double precision,
    -- How many steps ago the baseline was measured.
    steps       integer
);

-- The steps of adaptive limits. Only the newest row of a rule counts; rows are only added and deleted, as in
-- breakwater.rule_claim.
create table breakwater.adaptive_step (
    rule   bigint not null,
    number bigint not null,
    state  breakwater.adaptation not null,
    at     timestamptz not null default clock_timestamp(),
    primary key (rule, number)
);

-- How long the calls of kinds with an adaptive limit took, until the leader has used it for the next step: a row for
-- each batch that was settled together.
create table breakwater.call_time (
    id      bigint generated always as identity primary key,
    kind    text collate "C" not null,
    calls   integer not null,
    -- The sum of their times.
    seconds double precision not null,
    -- How many were slow, throttled or unavailable.
    bad     integer not null
) with (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
create index call_time_by_kind on breakwater.call_time (kind, id);

-- The limit of a kind before the first step.
create function breakwater.first_adaptation(p_least double precision, p_most double precision) returns breakwater.adaptation
language sql immutable parallel safe
return row(least(p_most, greatest(p_least, 10)), null, null, null, null, 0)::breakwater.adaptation;

-- The next step, given how many jobs ran at once, the mean latency of the calls that ended since the last step in
-- seconds, and the share of them that were slow, throttled or unavailable.
create function breakwater.adapt(
    p_last breakwater.adaptation, p_least double precision, p_most double precision, p_running double precision,
    p_latency double precision, p_bad double precision
) returns breakwater.adaptation
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    v_next  breakwater.adaptation := p_last;
    v_ratio double precision;
    v_room  double precision;
begin
    if p_last.resumes_at is not null then
        v_next.baseline := p_latency;
        v_next.allowed := case when p_bad > 0.1 then p_last.allowed else p_last.resumes_at end;
        v_next.resumes_at := null;
        v_next.last_allowed := null;
        v_next.last_latency := null;
        v_next.steps := 0;
        return v_next;
    end if;
    v_next.baseline := least(p_last.baseline, p_latency);
    v_ratio := p_last.allowed / p_last.last_allowed;
    -- Fewer calls at once would have made an overloaded dependency quicker. If they did not, it has become slower
    -- itself.
    if v_ratio < 0.8 and p_latency > p_last.last_latency * (1 + 2 * v_ratio) / 3 then
        v_next.baseline := p_latency;
    end if;
    v_next.last_allowed := p_last.allowed;
    v_next.last_latency := p_latency;
    v_next.steps := p_last.steps + 1;
    v_room := v_next.baseline * 1.25 / nullif(p_latency, 0);
    if p_bad > 0.1 then
        v_next.allowed := p_last.allowed * 0.7;
    elsif v_room < 1 then
        v_next.allowed := p_last.allowed * greatest(0.6, v_room);
    elsif p_running >= 0.8 * floor(p_last.allowed) then
        -- A limit that is not used up says nothing about what the dependency could take.
        v_next.allowed := p_last.allowed + greatest(1, p_last.allowed * least(0.2, coalesce(v_room, 2) - 1));
    end if;
    v_next.allowed := least(p_most, greatest(p_least, v_next.allowed));
    if v_next.steps >= 30 and v_next.allowed > p_least then
        v_next.resumes_at := v_next.allowed;
        v_next.allowed := greatest(p_least, v_next.allowed * 0.6);
    end if;
    return v_next;
end
$$;

-- The newest step of a rule; null: none was yet.
create function breakwater.adaptation_of(p_rule bigint) returns breakwater.adaptive_step
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return (select s from breakwater.adaptive_step s where s.rule = p_rule order by s.number desc limit 1);
end
$$;

-- How many jobs an adaptive rule lets run at once now.
create function breakwater.adapted_concurrency(p_rule breakwater.flow_rule) returns integer
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    -- The bounds may have changed since the last step.
    return floor(least((p_rule).concurrency, greatest((p_rule).least, coalesce(
        ((breakwater.adaptation_of((p_rule).id)).state).allowed,
        (breakwater.first_adaptation((p_rule).least, (p_rule).concurrency)).allowed))));
end
$$;

-- Takes the next step of each adaptive limit for which enough calls have ended. After its circuit has closed, a limit
-- starts at half of what it was. The leader runs this as maintenance.
create function breakwater.adapt_limits() returns void
language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off
as $$
declare
    v_rule  breakwater.flow_rule;
    v_last  breakwater.adaptive_step;
    v_circuit breakwater.circuit;
    v_state breakwater.adaptation;
    v_calls record;
    v_running bigint;
begin
    for v_rule in select * from breakwater.flow_rule r where r.type = 'adapt' order by r.id loop
        v_last := breakwater.adaptation_of(v_rule.id);
        v_state := coalesce(v_last.state, breakwater.first_adaptation(v_rule.least, v_rule.concurrency));
        select c.* into v_circuit
          from breakwater.handler h
          join breakwater.circuit c on breakwater.is_circuit_of(c.kind, c.key, h.kind, h.shared_key, '')
         where h.kind = v_rule.name;
        if v_circuit.state <> 'closed' then
            -- Probes say nothing about how much the dependency takes.
            delete from breakwater.call_time t where t.kind = v_rule.name;
            continue;
        end if;
        if v_last.at < v_circuit.since and v_circuit.generation > 1 then
            v_state := breakwater.first_adaptation(v_rule.least, v_rule.concurrency);
            v_state.allowed := greatest(v_rule.least, ((v_last.state).allowed) / 2);
            perform breakwater.record_adaptation(v_rule.id, v_state, v_last.number);
            delete from breakwater.call_time t where t.kind = v_rule.name;
            continue;
        end if;
        select array_agg(t.id) as ids, sum(t.calls) as calls, sum(t.seconds) as seconds, sum(t.bad) as bad into v_calls
          from breakwater.call_time t where t.kind = v_rule.name;
        -- As many calls as run at once have ended, or half as many in five seconds.
        continue when coalesce(v_calls.calls, 0) < 5
                   or (v_calls.calls < v_state.allowed and coalesce(v_last.at > clock_timestamp() - interval '5 seconds', false));
        delete from breakwater.call_time t where t.id = any (v_calls.ids);
        v_running := (select count(*) from breakwater.held_under(breakwater.state_of_rule(v_rule)));
        perform breakwater.record_adaptation(
            v_rule.id,
            breakwater.adapt(v_state, v_rule.least, v_rule.concurrency, v_running,
                             v_calls.seconds / v_calls.calls, v_calls.bad::double precision / v_calls.calls),
            v_last.number);
    end loop;
    delete from breakwater.adaptive_step s where not exists (select from breakwater.flow_rule r where r.id = s.rule);
end
$$;

-- Adds a rule's new step and deletes the one before.
create function breakwater.record_adaptation(p_rule bigint, p_state breakwater.adaptation, p_last bigint) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    insert into breakwater.adaptive_step (rule, number, state) values (p_rule, nextval('breakwater.rule_claim_number'), p_state);
    delete from breakwater.adaptive_step s where s.rule = p_rule and s.number <= p_last;
end
$$;
