-- The limits that endpoints have of their own. They are limits of keys (see 46_limits_of_keys.sql).

-- The limit that an endpoint has after a change: what is null stays, and 0 takes it away.
create function breakwater.endpoint_limit(
    p_old breakwater.endpoint, p_name text, p_concurrency integer, p_rate double precision, p_per interval, p_burst integer
) returns breakwater.key_limit
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    v_limit breakwater.key_limit;
    -- A rate that stays is one a second already.
    v_per   interval := case when p_rate is null then interval '1 second' else p_per end;
begin
    v_limit.concurrency := nullif(coalesce(p_concurrency, (p_old).concurrency), 0);
    v_limit.rate := nullif(coalesce(p_rate, (p_old).rate), 0);
    v_limit.burst := case when v_limit.rate is not null or p_burst is not null
                          then coalesce(p_burst, case when p_rate is null then (p_old).burst end) end;
    if num_nonnulls(v_limit.concurrency, v_limit.rate, v_limit.burst) > 0 then
        v_limit.burst := breakwater.check_limit(
            format('the endpoint %L', p_name), v_limit.concurrency, v_limit.rate, v_per, v_limit.burst);
        v_limit.rate := v_limit.rate / extract(epoch from v_per)::double precision;
    end if;
    return v_limit;
end
$$;

-- Makes the limits of endpoints apply to the jobs of all kinds that are sent to endpoints: for each path by which kinds
-- name their endpoint, a limit with that key, and the limits of its keys. There is none as long as no endpoint has one,
-- because it costs the claims of these kinds a little.
--
-- Locks: the changes of rules, then the lanes of these kinds. The caller may hold rows of endpoints.
create function breakwater.apply_endpoint_limits() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_path record;
    v_old  breakwater.flow_rule;
    v_new  breakwater.flow_rule;
    v_key  breakwater.key_limit;
    v_is_needed boolean;
begin
    perform breakwater.lock_changes_of_rules();
    v_is_needed := exists (select from breakwater.endpoint e where num_nonnulls(e.concurrency, e.rate) > 0);
    for v_path in
        select r.name, k.path, k.kinds
          from (select k.path, array_agg(k.kind order by k.kind) as kinds from breakwater.endpoint_kind k group by k.path) k
          full join (select r.name, r.key_path from breakwater.flow_rule r
                      where r.type = 'limit' and r.name like 'endpoints at %' and r.source = 'operator') r
            on r.name = 'endpoints at $.' || left(array_to_string(k.path, '.'), 180)
    loop
        select * into v_old from breakwater.flow_rule r where r.type = 'limit' and r.name = v_path.name;
        if v_path.path is null or not v_is_needed then
            if v_old.id is not null then
                perform breakwater.delete_rule(v_old);
            end if;
            continue;
        end if;
        if v_old.id is null or v_old.kinds is distinct from v_path.kinds or v_old.key_path is distinct from v_path.path then
            v_new := null;
            v_new.type := 'limit';
            v_new.name := 'endpoints at $.' || left(array_to_string(v_path.path, '.'), 180);
            v_new.key_path := v_path.path;
            v_new.concurrency := 1000000;
            v_new.kinds := v_path.kinds;
            v_new.source := 'operator';
            v_new.actor := 'endpoints';
            v_new.reason := 'some endpoints have limits of their own';
            perform breakwater.write_rule(v_new);
            v_path.name := v_new.name;
        end if;
        for v_key in
            select v_path.name, coalesce(breakwater.key_of(jsonb_build_object('k', e.name), '{k}'), k.key),
                   e.concurrency, e.rate, e.burst, null, null, now()
              from (select e.* from breakwater.endpoint e where num_nonnulls(e.concurrency, e.rate) > 0) e
              full join (select k.* from breakwater.key_limit k where k.name = v_path.name) k
                on k.key = breakwater.key_of(jsonb_build_object('k', e.name), '{k}')
             where (e.concurrency, e.rate, e.burst) is distinct from (k.concurrency, k.rate, k.burst)
        loop
            if num_nonnulls(v_key.concurrency, v_key.rate) > 0 then
                perform breakwater.write_key_limit(v_key);
            else
                perform breakwater.delete_key_limit(v_key.name, v_key.key);
            end if;
        end loop;
    end loop;
end
$$;
