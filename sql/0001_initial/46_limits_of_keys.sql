-- The limits of single values of a limit's key.

-- Sets a limit for one value of the key of a limit, which then has these values in place of the limit's: a customer who
-- may have more than the others, or fewer. It stays when the limit is changed, and goes when the limit is removed.
-- Locks the lanes of the limit's kinds until the transaction ends.
create function breakwater.set_key_limit(
    name text, value text, concurrency integer default null, rate double precision default null,
    per interval default '1 second', burst integer default null, reason text default null,
    actor text default session_user
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_where text := format('the limit %L of %L', left(set_key_limit.name, 200), left(set_key_limit.value, 200));
    v_new   breakwater.key_limit;
begin
    perform breakwater.lock_changes_of_rules();
    if set_key_limit.value is null then
        raise exception 'the limit of a key needs the key''s value' using errcode = '22023',
            hint = 'The empty text stands for jobs without the key.';
    end if;
    v_new.burst := breakwater.check_limit(
        v_where, set_key_limit.concurrency, set_key_limit.rate, set_key_limit.per, set_key_limit.burst);
    if not exists (select from breakwater.flow_rule r
                    where r.type = 'limit' and r.name = set_key_limit.name collate "C" and r.key_path is not null) then
        raise exception 'there is no limit % with a key', coalesce(quote_literal(left(set_key_limit.name, 200)), 'NULL')
            using errcode = 'P0002', hint = 'SELECT name, key FROM breakwater.limit_status lists the limits.';
    end if;
    v_new.name := set_key_limit.name;
    v_new.key := breakwater.key_of(jsonb_build_object('k', set_key_limit.value), '{k}');
    v_new.concurrency := set_key_limit.concurrency;
    v_new.rate := set_key_limit.rate / extract(epoch from set_key_limit.per)::double precision;
    v_new.actor := set_key_limit.actor;
    v_new.reason := set_key_limit.reason;
    perform breakwater.write_key_limit(v_new);
    perform breakwater.record_action(
        set_key_limit.actor, 'limit.set_key', set_key_limit.name, set_key_limit.reason,
        jsonb_strip_nulls(jsonb_build_object('key', left(set_key_limit.value, 200), 'concurrency', v_new.concurrency,
                                             'rate_per_second', v_new.rate, 'burst', v_new.burst)));
end
$$;

-- Removes the limit of one value of a key: the limit's own values hold for it again. Returns false if there is none.
create function breakwater.remove_key_limit(
    name text, value text, reason text default null, actor text default session_user
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    perform breakwater.lock_changes_of_rules();
    if not breakwater.delete_key_limit(
            remove_key_limit.name, breakwater.key_of(jsonb_build_object('k', remove_key_limit.value), '{k}')) then
        return false;
    end if;
    perform breakwater.record_action(
        remove_key_limit.actor, 'limit.remove_key', remove_key_limit.name, remove_key_limit.reason,
        jsonb_build_object('key', left(remove_key_limit.value, 200)));
    return true;
end
$$;

-- Writes the limit of a key. The caller has locked the changes of rules.
create function breakwater.write_key_limit(p_limit breakwater.key_limit) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform breakwater.lock_lanes_of_limit((p_limit).name);
    delete from breakwater.key_limit k where k.name = (p_limit).name and k.key = (p_limit).key;
    insert into breakwater.key_limit (name, key, concurrency, rate, burst, actor, reason)
    values ((p_limit).name, (p_limit).key, (p_limit).concurrency, (p_limit).rate, (p_limit).burst, (p_limit).actor,
            (p_limit).reason);
    perform breakwater.key_limit_changed((p_limit).name, (p_limit).key);
end
$$;

-- Deletes the limit of a key. Returns false if there is none. The caller has locked the changes of rules.
create function breakwater.delete_key_limit(p_name text, p_key text) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform breakwater.lock_lanes_of_limit(p_name);
    delete from breakwater.key_limit k where k.name = p_name collate "C" and k.key = p_key collate "C";
    if not found then
        return false;
    end if;
    perform breakwater.key_limit_changed(p_name, p_key);
    return true;
end
$$;

create function breakwater.lock_lanes_of_limit(p_name text) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
    select breakwater.lock_lanes(breakwater.kinds_of_rule(r))
      from breakwater.flow_rule r where r.type = 'limit' and r.name = p_name collate "C"
$$;

-- Notes whether a limit has limits of keys, and frees a key whose limit has changed: its jobs may be able to run.
create function breakwater.key_limit_changed(p_name text, p_key text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_rule breakwater.flow_rule;
begin
    update breakwater.flow_rule r
       set has_key_limits = exists (select from breakwater.key_limit k where k.name = r.name)
     where r.type = 'limit' and r.name = p_name collate "C"
    returning r.* into v_rule;
    insert into breakwater.freed_key (kind, rule, keys)
    select h.kind, v_rule.id, array[p_key] from breakwater.handler h where v_rule.id = any (h.rules);
    perform breakwater.wake(breakwater.kinds_of_rule(v_rule));
end
$$;
