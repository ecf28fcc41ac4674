-- Setting and removing limits while workers run, and the rules that handlers bring with their registration.

-- Locks the lanes of some kinds, so that none of their claims is in progress, and none begins before this transaction
-- has ended. Claims take a moment, so this waits a moment. The handlers' rows are locked first, as a registration does.
create function breakwater.lock_lanes(p_kinds text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform from breakwater.handler h where h.kind = any (p_kinds) order by h.kind for update;
    perform from breakwater.lane a where a.kind = any (p_kinds) order by a.id for update;
end
$$;

-- Makes changes of rules run one after the other. They lock handlers and lanes of several kinds, and would wait for
-- each other otherwise. They wait for claims from outside the lanes; no claim waits for this lock.
create function breakwater.lock_changes_of_rules() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    lock table breakwater.flow_rule in share row exclusive mode;
end
$$;

-- Whether handlers bring other rules than there are.
create function breakwater.brings_rules(p_handlers jsonb) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from jsonb_array_elements(p_handlers) h, jsonb_array_elements(h -> 'flow') f
         where not exists (select from breakwater.flow_rule r
                            where r.type = f ->> 'type' and r.name = f ->> 'name' and r.configured = f -> 'settings'))
        or exists (
        select from breakwater.flow_rule r
         where r.configured is not null
           and not exists (select from jsonb_array_elements(p_handlers) h, jsonb_array_elements(h -> 'flow') f
                            where f ->> 'type' = r.type and f ->> 'name' = r.name)
           and (r.name in (select h ->> 'kind' from jsonb_array_elements(p_handlers) h) or r.type = 'limit'))
$$;

-- Whether a rule applies to a kind. p_limits are the limits that the kind's configuration names.
create function breakwater.applies_to(p_rule breakwater.flow_rule, p_kind text, p_limits text[]) returns boolean
language sql immutable parallel safe
return (p_rule).name = p_kind collate "C"
    or ((p_rule).type = 'limit' and ((p_rule).name = any (p_limits) or p_kind = any ((p_rule).kinds)));

-- The kinds that a rule applies to.
create function breakwater.kinds_of_rule(p_rule breakwater.flow_rule) returns text[]
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select array(select h.kind from breakwater.handler h where breakwater.applies_to(p_rule, h.kind, h.limits) order by h.kind)
$$;

-- The rules that apply to a kind, in the order in which claims check them; null: none. The order of keys comes first,
-- because a job that waits for its key must not take a place under a limit.
create function breakwater.rules_of(p_kind text, p_limits text[]) returns bigint[]
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select array_agg(r.id order by r.type = 'share', r.type <> 'order', r.key_path is not null, r.id)
      from breakwater.flow_rule r where breakwater.applies_to(r, p_kind, p_limits)
$$;

-- Writes into the handlers of some kinds which rules apply to them. A rule that newly applies to a kind counts the jobs
-- of the kind that are held already. The caller has locked the kinds' lanes.
create function breakwater.refresh_rules(p_kinds text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_change record;
begin
    for v_change in
        select h.kind, h.rules as old, breakwater.rules_of(h.kind, h.limits) as new
          from breakwater.handler h
         where h.kind = any (p_kinds)
         order by h.kind
           for update of h
    loop
        continue when v_change.old is not distinct from v_change.new;
        update breakwater.handler h set rules = v_change.new where h.kind = v_change.kind;
        insert into breakwater.rule_claim (rule, number, leases, due_at)
        select n.rule, nextval('breakwater.rule_claim_number'),
               array(select distinct l from unnest(coalesce(c.leases, '{}') || breakwater.claims_of_rule(n.rule)) l),
               c.due_at
          from unnest(v_change.new) n(rule)
          left join lateral (select * from breakwater.rule_claim c where c.rule = n.rule order by c.number desc limit 1) c on true
         where n.rule <> all (coalesce(v_change.old, '{}'));
    end loop;
end
$$;

-- Checks the settings of a limit, and returns the burst. p_where begins the message.
create function breakwater.check_limit(
    p_where text, p_concurrency integer, p_rate double precision, p_per interval, p_burst integer
) returns integer
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    v_rate double precision := p_rate / nullif(extract(epoch from p_per), 0)::double precision;
begin
    if num_nonnulls(p_concurrency, p_rate) = 0 then
        raise exception '% limits nothing: give concurrency, rate, or both', p_where
            using errcode = '22023', hint = 'Such as concurrency => 5, or rate => 10, per => ''1 second''.';
    elsif p_concurrency not between 1 and 1000000 then
        raise exception '% has concurrency %, which is not 1 to 1000000', p_where, p_concurrency
            using errcode = '22023', hint = 'To stop jobs, pause their kind (breakwater.pause_kind) or disable their endpoint.';
    elsif p_rate is not null and (p_per is null or p_per <= interval '0') then
        raise exception '% has a rate per %, which is no positive time', p_where, coalesce(p_per::text, 'NULL')
            using errcode = '22023', hint = 'Such as per => ''1 minute''.';
    elsif p_rate <= 0 or p_rate = 'NaN' then
        raise exception '% has rate %, which is not above 0', p_where, p_rate
            using errcode = '22023', hint = 'To stop jobs, pause their kind (breakwater.pause_kind) or disable their endpoint.';
    elsif v_rate > 1000000 or v_rate < 1 / 31622400.0 then
        raise exception '% has a rate of % a second, which is not between one a year and 1000000 a second', p_where, v_rate
            using errcode = '22023';
    elsif p_burst is not null and p_rate is null then
        raise exception '% has a burst but no rate', p_where
            using errcode = '22023', hint = 'A burst is how many jobs a rate lets start at once after a pause.';
    elsif p_burst not between 1 and 1000000 then
        raise exception '% has burst %, which is not 1 to 1000000', p_where, p_burst using errcode = '22023';
    end if;
    -- By default, what a tenth of a second allows.
    return case when p_rate is not null then coalesce(p_burst, least(greatest(ceil(v_rate / 10), 1), 1000000)::integer) end;
end
$$;

-- A path of a payload as a list of its members: `$.customer.id` or `customer.id`.
create function breakwater.parse_path(p_where text, p_path text) returns text[]
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    v_path text := regexp_replace(p_path, '^\$\.', '');
begin
    if p_path is null then
        return null;
    elsif v_path = '' or v_path ~ '(^\.|\.$|\.\.|^\$|[][*?\s])' or octet_length(v_path) > 500 then
        raise exception '% has the path %, which is not one such as $.customer.id', p_where, quote_literal(left(p_path, 100))
            using errcode = '22023';
    end if;
    return string_to_array(v_path, '.');
end
$$;

-- Sets a limit for the whole fleet, or changes one. It applies to the kind that has its name, to the kinds that name it
-- in their configuration, and to those in `kinds`.
--
-- `concurrency` is how many of their jobs may run at once, `rate` how many may start in the time `per`, and `burst` how
-- many may start at once after a pause (default: what a tenth of a second allows, at least 1). With `key`, a path of
-- the payload such as '$.customer', these apply to each value by itself; jobs without it share the value ''. `weight`
-- is a path where the payload says for how many a job counts; it may count for no more than the limit.
--
-- It holds from now on, also over what the configuration says, until it is removed. Jobs that run already are counted.
-- If they are more than the limit, they run on, and no other starts. Refuses with 22023 what limits nothing or is out
-- of range. Locks the lanes of those kinds until the transaction ends.
create function breakwater.set_limit(
    name text, concurrency integer default null, rate double precision default null, per interval default '1 second',
    burst integer default null, key text default null, kinds text[] default null, weight text default null,
    reason text default null, actor text default session_user
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_where text := format('the limit %L', left(set_limit.name, 200));
    v_old   breakwater.flow_rule;
    v_new   breakwater.flow_rule;
begin
    if coalesce(octet_length(set_limit.name), 0) not between 1 and 200 or breakwater.has_control_characters(set_limit.name) then
        raise exception 'a limit needs a name of 1 to 200 bytes, without control characters' using errcode = '22023';
    end if;
    if exists (select from unnest(set_limit.kinds) k where coalesce(octet_length(k), 0) not between 1 and 200) then
        raise exception '% names a kind that is not 1 to 200 bytes long', v_where using errcode = '22023';
    end if;
    perform breakwater.lock_changes_of_rules();
    v_new.burst := breakwater.check_limit(v_where, set_limit.concurrency, set_limit.rate, set_limit.per, set_limit.burst);
    select * into v_old from breakwater.flow_rule r where r.type = 'limit' and r.name = set_limit.name collate "C";
    v_new.type := 'limit';
    v_new.name := set_limit.name;
    v_new.key_path := breakwater.parse_path(v_where, set_limit.key);
    v_new.concurrency := set_limit.concurrency;
    v_new.rate := set_limit.rate / extract(epoch from set_limit.per)::double precision;
    v_new.weight_path := breakwater.parse_path(v_where, set_limit.weight);
    v_new.kinds := coalesce(set_limit.kinds, v_old.kinds, '{}');
    v_new.configured := v_old.configured;
    v_new.source := 'operator';
    v_new.actor := set_limit.actor;
    v_new.reason := set_limit.reason;
    perform breakwater.write_rule(v_new);
    perform breakwater.record_action(
        set_limit.actor, 'limit.set', set_limit.name, set_limit.reason,
        jsonb_strip_nulls(jsonb_build_object('old', breakwater.rule_settings(v_old), 'new', breakwater.rule_settings(v_new))));
end
$$;

-- Removes a limit that was set. If the configuration has a limit of that name, that one holds again. Jobs that it held
-- back go back to their lanes within seconds. Returns false if there is none.
create function breakwater.remove_limit(name text, reason text default null, actor text default session_user) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_old breakwater.flow_rule;
    v_new breakwater.flow_rule;
begin
    perform breakwater.lock_changes_of_rules();
    select * into v_old from breakwater.flow_rule r where r.type = 'limit' and r.name = remove_limit.name collate "C";
    if not found then
        return false;
    end if;
    if v_old.source = 'operator' and v_old.configured is not null then
        v_new := breakwater.configured_rule('limit', v_old.name, v_old.configured);
        perform breakwater.write_rule(v_new);
    else
        perform breakwater.delete_rule(v_old);
    end if;
    perform breakwater.record_action(
        remove_limit.actor, 'limit.remove', remove_limit.name, remove_limit.reason,
        jsonb_strip_nulls(jsonb_build_object('old', breakwater.rule_settings(v_old), 'new', breakwater.rule_settings(v_new))));
    return true;
end
$$;

-- The settings of a rule that people know.
create function breakwater.rule_settings(p_rule breakwater.flow_rule) returns jsonb
language sql immutable set search_path = pg_catalog, pg_temp
as $$
    select case when (p_rule).name is not null then jsonb_strip_nulls(jsonb_build_object(
        'concurrency', (p_rule).concurrency, 'rate_per_second', (p_rule).rate, 'burst', (p_rule).burst,
        'key', '$.' || array_to_string((p_rule).key_path, '.'), 'weight', '$.' || array_to_string((p_rule).weight_path, '.'),
        'kinds', nullif((p_rule).kinds, '{}'), 'on_dead', (p_rule).on_dead)) end
$$;

-- Writes a rule, so that it applies from the next claim on. A rule whose key changes gets a new id, because jobs are
-- held back and counted under the old key; the leader puts those back into their lanes.
create function breakwater.write_rule(p_rule breakwater.flow_rule) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_old   breakwater.flow_rule;
    v_kinds text[];
begin
    select * into v_old from breakwater.flow_rule r where r.type = (p_rule).type and r.name = (p_rule).name;
    v_kinds := breakwater.kinds_of_rule(p_rule) || breakwater.kinds_of_rule(v_old);
    perform breakwater.lock_lanes(v_kinds);
    if v_old.id is not null and v_old.key_path is distinct from (p_rule).key_path then
        perform breakwater.delete_rows_of_rule(v_old);
    end if;
    insert into breakwater.flow_rule as r (
        type, name, key_path, concurrency, rate, least, burst, weight_path, on_dead, kinds, configured, source, actor, reason)
    select (p_rule).type, (p_rule).name, (p_rule).key_path, (p_rule).concurrency, (p_rule).rate, (p_rule).least,
           (p_rule).burst, (p_rule).weight_path, (p_rule).on_dead, coalesce((p_rule).kinds, '{}'), (p_rule).configured, (p_rule).source,
           (p_rule).actor, (p_rule).reason
    on conflict (type, name) do update
       set (concurrency, rate, least, burst, weight_path, on_dead, kinds, configured, source, actor, reason, updated_at)
         = (excluded.concurrency, excluded.rate, excluded.least, excluded.burst, excluded.weight_path, excluded.on_dead, excluded.kinds,
            excluded.configured, excluded.source, excluded.actor, excluded.reason, now());
    perform breakwater.refresh_rules(v_kinds);
    -- Jobs that the old settings held back may be able to run.
    perform breakwater.free_first_keys((p_rule).type, (p_rule).name);
    perform breakwater.wake(v_kinds);
end
$$;

-- Deletes a rule's row and its log.
create function breakwater.delete_rows_of_rule(p_rule breakwater.flow_rule) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
    delete from breakwater.flow_rule r where r.id = (p_rule).id;
    delete from breakwater.key_limit k where (p_rule).type = 'limit' and k.name = (p_rule).name;
    delete from breakwater.rule_claim c where c.rule = (p_rule).id;
    delete from breakwater.share_turn t where t.rule = (p_rule).id;
    delete from breakwater.freed_key f where f.rule = (p_rule).id;
$$;

-- Deletes a rule.
create function breakwater.delete_rule(p_rule breakwater.flow_rule) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_kinds text[] := breakwater.kinds_of_rule(p_rule);
begin
    perform breakwater.lock_lanes(v_kinds);
    perform breakwater.delete_rows_of_rule(p_rule);
    perform breakwater.refresh_rules(v_kinds);
    perform breakwater.wake(v_kinds);
end
$$;

-- Frees the first thousand keys for which a rule holds back jobs. The leader's search finds the others.
create function breakwater.free_first_keys(p_type text, p_name text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_bitmapscan = off
as $$
begin
    insert into breakwater.freed_key (kind, rule, keys)
    with recursive held as (
        select h.kind, r.id as rule, n.rule_key as key, 1 as step
          from breakwater.flow_rule r
          join breakwater.handler h on r.id = any (h.rules)
         cross join lateral (select j.rule_key from breakwater.job j where j.kind = h.kind and j.rule = r.id
                              order by j.rule_key limit 1) n
         where r.type = p_type and r.name = p_name collate "C" and r.type <> 'share'
        union all
        select k.kind, k.rule, n.rule_key, k.step + 1
          from held k
         cross join lateral (select j.rule_key from breakwater.job j
                              where j.kind = k.kind and j.rule = k.rule and j.rule_key > k.key
                              order by j.rule_key limit 1) n
         where k.step < 1000
    )
    select k.kind, k.rule, array_agg(k.key) from held k group by k.kind, k.rule;
end
$$;

-- The rule that a configuration describes: an object with the columns of breakwater.flow_rule, whose paths are lists.
create function breakwater.configured_rule(p_type text, p_name text, p_settings jsonb) returns breakwater.flow_rule
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    v_rule breakwater.flow_rule;
begin
    v_rule := jsonb_populate_record(null::breakwater.flow_rule, p_settings);
    v_rule.type := p_type;
    v_rule.name := p_name;
    if v_rule.rate is not null then
        v_rule.burst := breakwater.check_limit(format('the limit %L', p_name), v_rule.concurrency, v_rule.rate, '1 second', v_rule.burst);
    end if;
    v_rule.kinds := '{}';
    v_rule.configured := p_settings;
    v_rule.source := 'configuration';
    return v_rule;
end
$$;

-- Writes the rules that handlers bring with their registration: in each handler's `flow`, a list of objects with
-- `type`, `name` and settings. A limit that an operator set stays as it is. Rules of the configuration that no handler
-- names any more are deleted. Usually nothing has changed, and nothing is locked.
--
-- With p_only_missing, when a worker puts back rows of its registration, existing rules stay as they are, because
-- another worker may have registered newer ones.
create function breakwater.configure_rules(p_handlers jsonb, p_only_missing boolean default false) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_given record;
    v_old   breakwater.flow_rule;
    v_kinds text[];
begin
    select array_agg(h ->> 'kind') into v_kinds from jsonb_array_elements(p_handlers) h;
    if v_kinds is null then
        return;
    end if;
    update breakwater.handler h
       set limits = g.limits
      from (select e.h ->> 'kind' as kind,
                   (select array_agg(f ->> 'name' order by f ->> 'name') from jsonb_array_elements(e.h -> 'flow') f
                     where f ->> 'type' = 'limit') as limits
              from jsonb_array_elements(p_handlers) e(h)) g
     where h.kind = g.kind collate "C" and h.limits is distinct from g.limits;
    for v_given in
        select distinct on (f ->> 'type', f ->> 'name') f ->> 'type' as type, f ->> 'name' as name, f -> 'settings' as settings
          from jsonb_array_elements(p_handlers) h, jsonb_array_elements(h -> 'flow') f
         order by f ->> 'type', f ->> 'name'
    loop
        select * into v_old from breakwater.flow_rule r where r.type = v_given.type and r.name = v_given.name collate "C";
        continue when v_old.id is not null and (p_only_missing or v_old.configured = v_given.settings);
        if v_old.source = 'operator' then
            update breakwater.flow_rule r set configured = v_given.settings where r.id = v_old.id;
        else
            perform breakwater.write_rule(breakwater.configured_rule(v_given.type, v_given.name, v_given.settings));
        end if;
    end loop;
    for v_old in
        select r.* from breakwater.flow_rule r
         where r.configured is not null
           and not exists (select from breakwater.handler h where h.kind <> all (v_kinds) and breakwater.applies_to(r, h.kind, h.limits))
           and not exists (select from jsonb_array_elements(p_handlers) h, jsonb_array_elements(h -> 'flow') f
                            where f ->> 'type' = r.type and f ->> 'name' = r.name)
           -- It belonged to one of these handlers, or to none that is left.
           and (r.name = any (v_kinds) or r.type = 'limit')
           and not p_only_missing
         order by r.id
    loop
        if v_old.source = 'operator' then
            update breakwater.flow_rule r set configured = null where r.id = v_old.id;
        else
            perform breakwater.delete_rule(v_old);
        end if;
    end loop;
    if exists (select from breakwater.handler h
                where h.kind = any (v_kinds) and h.rules is distinct from breakwater.rules_of(h.kind, h.limits)) then
        perform breakwater.lock_lanes(v_kinds);
        perform breakwater.refresh_rules(v_kinds);
    end if;
end
$$;
