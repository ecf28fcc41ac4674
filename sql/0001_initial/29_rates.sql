-- Rates: how many jobs may start by now, and when. A rate without a key has its clock in the log of its rule, and one
-- with a key has a clock for each key (see 14_flow_tables.sql).

-- How far ahead of its time a start may be claimed. The worker then waits until it is due, so that a rate is kept
-- evenly although jobs are claimed in batches.
create function breakwater.start_horizon() returns interval
language sql immutable parallel safe
return interval '50 milliseconds';

-- The time between two starts at a rate. It is one percent longer than the rate says, because jobs start a moment after
-- they were claimed, and that moment varies.
create function breakwater.start_interval(p_rate double precision) returns interval
language sql immutable parallel safe
return make_interval(secs => 1.01 / p_rate);

-- How many starts a rate allows by now, and how long until the next one. p_due_at is the clock of the rate or of its
-- key.
--
-- This is the generic cell rate algorithm (GCRA, ITU-T I.371): each start moves the clock on by one interval, and the
-- clock may be ahead of the time by the burst less one. A clock that is further ahead than starts can have moved it is
-- ignored: the rate was raised, or the database's time was set back.
create function breakwater.starts_allowed(
    p_rule breakwater.flow_rule, p_due_at timestamptz, p_until timestamptz, p_now timestamptz,
    out starts bigint, out wait double precision, out clock timestamptz
)
language plpgsql immutable parallel safe
as $$
declare
    v_step    double precision := extract(epoch from breakwater.start_interval((p_rule).rate));
    v_horizon double precision := extract(epoch from breakwater.start_horizon());
    v_burst   integer := (p_rule).burst;
    -- How many seconds the clock is ahead.
    v_ahead   double precision := 0;
begin
    if p_due_at - p_now <= make_interval(secs => v_burst * v_step + v_horizon + 0.001) then
        v_ahead := greatest(extract(epoch from p_due_at - p_now), 0);
    end if;
    starts := 0;
    if (p_until > p_now + breakwater.start_horizon()) is not true then
        -- The small addition is for rounding: at most a microsecond.
        starts := greatest(0, floor((v_burst * v_step + v_horizon - v_ahead) / v_step + least(1e-6, 1e-6 / v_step)));
    end if;
    wait := greatest(v_ahead - (v_burst - 1) * v_step - v_horizon, extract(epoch from p_until - p_now) - v_horizon, 0);
    clock := p_now + make_interval(secs => v_ahead);
end
$$;

-- Until when a rule or a key of it is paused because the dependency asked for it; null: it is not.
create function breakwater.paused_until(p_rule bigint, p_key text) returns timestamptz
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return (select p.until from breakwater.rate_pause p
             where p.rule = p_rule and p.key = p_key collate "C" and p.until > clock_timestamp()
             order by p.until desc limit 1);
end
$$;

-- When some jobs may start under a rate, in seconds from now, in their order, and the rate's clock afterwards.
create function breakwater.start_times(
    p_rule breakwater.flow_rule, p_due_at timestamptz, p_weights integer[], out delays double precision[], out due_at timestamptz
)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_now   timestamptz := clock_timestamp();
    v_clock timestamptz := (select a.clock from breakwater.starts_allowed(p_rule, p_due_at, null, v_now) a);
    v_step  double precision := extract(epoch from breakwater.start_interval((p_rule).rate));
    v_ahead double precision := extract(epoch from v_clock - v_now) - ((p_rule).burst - 1) * v_step;
begin
    -- A job of weight n takes n places, and starts when the last of them is due.
    delays := array(
        select greatest(0, v_ahead + (sum(w.weight) over (order by w.place) - 1) * v_step)
          from unnest(p_weights) with ordinality w(weight, place) order by w.place);
    due_at := v_clock + make_interval(secs => (select sum(w) from unnest(p_weights) w) * v_step);
end
$$;

-- The same for a rate that has a key: moves the clocks of the jobs' keys. When a key's next start is due, claims look
-- for jobs that are held back for it.
create function breakwater.start_keys(
    p_rule breakwater.flow_rule, p_kind text, p_keys text[], p_weights integer[]
) returns double precision[]
language plpgsql set search_path = pg_catalog, pg_temp set enable_sort = on
as $$
declare
    v_key    record;
    v_rule   breakwater.flow_rule;
    v_times  record;
    v_delays double precision[] := array_fill(0::double precision, array[cardinality(p_keys)]);
    v_number bigint;
begin
    for v_key in
        select k.key, array_agg(k.place order by k.place) as places, array_agg(k.weight order by k.place) as weights
          from unnest(p_keys, p_weights) with ordinality k(key, weight, place)
         group by k.key
    loop
        v_rule := breakwater.rule_of_key(p_rule, v_key.key);
        continue when v_rule.rate is null;
        select c.due_at, c.number into v_times from breakwater.key_clock c
         where c.rule = (p_rule).id and c.key = v_key.key collate "C" order by c.number desc limit 1;
        v_number := v_times.number;
        select t.delays, t.due_at into v_times from breakwater.start_times(v_rule, v_times.due_at, v_key.weights) t;
        for i in 1 .. cardinality(v_key.places) loop
            v_delays[v_key.places[i]] := v_times.delays[i];
        end loop;
        insert into breakwater.key_clock (rule, key, number, due_at)
        values ((p_rule).id, v_key.key, nextval('breakwater.rule_claim_number'), v_times.due_at);
        delete from breakwater.key_clock c
         where c.rule = (p_rule).id and c.key = v_key.key collate "C" and c.number = v_number;
        insert into breakwater.freed_key (kind, rule, keys, due_at)
        select h.kind, (p_rule).id, array[v_key.key], breakwater.next_start(v_rule, v_times.due_at)
          from breakwater.handler h where (p_rule).id = any (h.rules);
    end loop;
    return v_delays;
end
$$;

-- When the next start is allowed, given a rate's clock.
create function breakwater.next_start(p_rule breakwater.flow_rule, p_due_at timestamptz) returns timestamptz
language plpgsql immutable parallel safe
as $$
begin
    return p_due_at - ((p_rule).burst - 1) * breakwater.start_interval((p_rule).rate) - breakwater.start_horizon();
end
$$;
