-- Endpoints: the URLs of customers, to which jobs of kinds with `http: { endpoint: $.path }` are sent by name.
--
-- A kind's circuits are keyed by the same path, so each endpoint has its own circuit for each kind. A disabled endpoint
-- is held by these circuits: its jobs wait, parked, and cost other jobs nothing.

-- Refuses values that a worker could not use.
create function breakwater.check_endpoint(p_name text, p_url text, p_secrets text[], p_headers jsonb, p_disable_after interval)
returns void
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    v_secret text;
    v_header record;
    v_length integer;
begin
    if p_name is null or octet_length(p_name) not between 1 and 200 or breakwater.has_control_characters(p_name) then
        raise exception 'an endpoint''s name must have 1 to 200 bytes, without control characters' using errcode = '22023';
    end if;
    if p_url is null or octet_length(p_url) > 2000 or p_url !~* '^https?://[^][/?#@[:space:][:cntrl:]"<>\\]+(/|\?|$)'
                                                 and p_url !~* '^https?://\[[0-9a-f:.]+\](:[0-9]+)?(/|\?|$)'
       or p_url ~ '[#[:space:][:cntrl:]]'
    then
        -- The message leaves out the URL, which may contain a secret.
        raise exception 'the url of the endpoint ''%'' is not one that requests can be sent to', p_name
            using errcode = '22023',
                  hint = 'Give an http or https URL with a host, without a user, a password or a fragment, of at most '
                         || '2000 bytes: https://hooks.example/path';
    end if;
    if cardinality(p_secrets) > 5 then
        raise exception 'the endpoint ''%'' has % secrets, and may have 5', p_name, cardinality(p_secrets)
            using errcode = '22023', hint = 'Leave out those that the receiver does not use any more.';
    end if;
    foreach v_secret in array p_secrets loop
        begin
            v_length := case when v_secret ~ '^whsec_[A-Za-z0-9+/]+={0,2}$'
                             then octet_length(decode(substr(v_secret, 7), 'base64')) end;
        exception when invalid_parameter_value then
            v_length := null;
        end;
        if v_length is null or v_length not between 24 and 64 then
            raise exception 'a secret of the endpoint ''%'' is not a Standard Webhooks key', p_name
                using errcode = '22023', hint = 'It must be whsec_ followed by 24 to 64 bytes in Base64.';
        end if;
    end loop;
    if jsonb_typeof(p_headers) is distinct from 'object' or octet_length(p_headers::text) > 16384 then
        raise exception 'the headers of the endpoint ''%'' are not an object of at most 16 KiB', p_name
            using errcode = '22023', hint = 'Give names and values: {"Authorization": "Bearer …"}';
    end if;
    for v_header in
        select h.key, h.value #>> '{}' as value, jsonb_typeof(h.value) as type from jsonb_each(p_headers) h
    loop
        if v_header.key !~ '^[A-Za-z0-9!#$%&''*+.^_`|~-]+$' or v_header.type <> 'string'
           or v_header.value ~ '[\x01-\x08\x0a-\x1f\x7f]'
        then
            raise exception 'the header ''%'' of the endpoint ''%'' cannot be sent', v_header.key, p_name
                using errcode = '22023',
                      hint = 'A name has letters, digits and !#$%&''*+-.^_`|~; a value is a text without line breaks.';
        elsif lower(v_header.key) in ('connection', 'content-length', 'content-type', 'expect', 'host',
                'idempotency-key', 'te', 'traceparent', 'tracestate', 'trailer', 'transfer-encoding', 'upgrade',
                'webhook-id', 'webhook-signature', 'webhook-timestamp')
              or lower(v_header.key) like 'breakwater-%'
        then
            raise exception 'the header ''%'' of the endpoint ''%'' is set by the worker itself', v_header.key, p_name
                using errcode = '22023', hint = 'Leave it out.';
        end if;
    end loop;
    if p_disable_after < interval '0' or p_disable_after > interval '366 days' then
        raise exception 'disable_after is %, and must be 0 (never) to 366 days', p_disable_after using errcode = '22023';
    end if;
end
$$;

-- The kinds whose circuits are those of endpoints: the handlers' key is the endpoint's name. A kind whose workers now
-- use another key has no such circuits.
create function breakwater.endpoint_circuits() returns table (kind text, path text[], when_disabled text)
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select k.kind, k.path, k.when_disabled
      from breakwater.endpoint_kind k
      join breakwater.handler h on h.kind = k.kind and h.key_path = k.path and h.shared_key is null and h.circuit_enabled
     order by k.kind
$$;

-- How many circuits of disabled endpoints a kind may get. A kind has at most 1,000 circuits of keys. Beyond 900,
-- workers put off the jobs of disabled endpoints themselves, so that failing endpoints can still have circuits.
create function breakwater.free_endpoint_circuits(p_kind text) returns integer
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select greatest(0, 900 - count(*))::integer from breakwater.circuit c
     where c.kind = p_kind collate "C" and c.key <> ''
$$;

-- Whether a circuit is held open because its endpoint is disabled. No other override is touched when an endpoint is
-- disabled or enabled: it is an operator's.
create function breakwater.is_endpoint_hold(p_circuit breakwater.circuit) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp
as $$ select coalesce(p_circuit.override = 'open' and p_circuit.reason like 'endpoint disabled: %', false) $$;

-- Whether a circuit does not yet do what its disabled endpoint needs, and may be changed. If the endpoint's jobs are
-- held, its circuit is held open. If they become dead letters, its circuit is closed, so that the jobs reach a worker,
-- which discards them.
create function breakwater.needs_hold(p_circuit breakwater.circuit, p_when_disabled text) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp
as $$
    select case when p_when_disabled = 'hold' then p_circuit.override is null
                else p_circuit.state <> 'closed'
                     and (p_circuit.override is null or breakwater.is_endpoint_hold(p_circuit)) end
$$;

-- Makes the circuit of a disabled endpoint do what it needs, if there is one. Locks the circuit's row.
create function breakwater.hold_circuit(p_kind text, p_name text, p_when_disabled text, p_reason text, p_actor text)
returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_circuit breakwater.circuit;
begin
    select * into v_circuit from breakwater.circuit c
     where c.kind = p_kind collate "C" and c.key = p_name collate "C" for update;
    if found and breakwater.needs_hold(v_circuit, p_when_disabled) then
        perform breakwater.override_circuit(
            p_kind, p_name, case when p_when_disabled = 'hold' then 'open' end,
            'endpoint disabled: ' || coalesce(p_reason, '?'), null, p_actor);
    end if;
end
$$;

-- Makes the circuits of all kinds do what a disabled endpoint needs. Locks the circuits' rows.
create function breakwater.hold_endpoint(p_name text, p_reason text, p_actor text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_kind record;
begin
    for v_kind in select c.* from breakwater.endpoint_circuits() c loop
        insert into breakwater.circuit (kind, key, key_path)
        select v_kind.kind, p_name, v_kind.path
         where v_kind.when_disabled = 'hold' and breakwater.free_endpoint_circuits(v_kind.kind) > 0
        on conflict do nothing;
        perform breakwater.hold_circuit(v_kind.kind, p_name, v_kind.when_disabled, p_reason, p_actor);
    end loop;
end
$$;

-- Ends the hold of an endpoint's circuits. Those that an operator holds open for another reason stay as they are.
-- Returns how many there were.
create function breakwater.release_endpoint(p_name text, p_reason text, p_actor text) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_kind text;
    v_done integer := 0;
begin
    for v_kind in
        select c.kind from breakwater.circuit c join breakwater.endpoint_kind k on k.kind = c.kind
         where c.key = p_name collate "C" and breakwater.is_endpoint_hold(c)
         order by c.kind
    loop
        perform breakwater.override_circuit(v_kind, p_name, null, p_reason, null, p_actor);
        v_done := v_done + 1;
    end loop;
    return v_done;
end
$$;

-- Disables an endpoint whose row the caller has locked. `p_is_rule`: the rule did it and not a person, so the operator
-- is told.
create function breakwater.do_disable_endpoint(p_name text, p_reason text, p_actor text, p_is_rule boolean) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_endpoint breakwater.endpoint;
begin
    update breakwater.endpoint e
       set disabled_at = coalesce(e.disabled_at, breakwater.clock()), disabled_by = left(p_actor, 200),
           disabled_reason = left(p_reason, 2000), updated_at = now()
     where e.name = p_name collate "C"
    returning * into v_endpoint;
    perform breakwater.record_action(p_actor, 'endpoint.disable', p_name, p_reason);
    perform breakwater.hold_endpoint(p_name, p_reason, p_actor);
    if p_is_rule then
        insert into breakwater.endpoint_notice (endpoint, message, next_try)
        values (p_name,
                jsonb_build_object('type', 'endpoint.disabled', 'timestamp', breakwater.clock(),
                    'data', jsonb_build_object('endpoint', p_name, 'reason', p_reason,
                        'failing_since', v_endpoint.failing_since, 'last_failure', v_endpoint.last_failure)),
                breakwater.clock());
    end if;
end
$$;

-- Where a URL leads: its scheme, host and port.
create function breakwater.origin_of(p_url text) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
    select lower(m[1]) || '://' || lower(m[2]) || ':'
           || coalesce(nullif(m[3], ''), case lower(m[1]) when 'http' then '80' else '443' end)
      from regexp_match(p_url, '^(https?)://(\[[^]]*\]|[^:/?]+)(?::([0-9]*))?', 'i') m
$$;

-- Adds an endpoint or changes one. What is null stays as it is; a new endpoint needs a url. `secrets` replaces all of
-- them: to change a secret, give the new one and the old one, and later the new one alone. Returns whether the endpoint
-- is new. A change takes effect on workers within seconds.
--
-- Headers may hold a customer's secrets, which the caller need not know. So they are not kept when the URL leads to
-- another scheme, host or port: the caller has to give headers then.
--
-- `concurrency` is how many of its deliveries may run at once in the whole fleet, `rate` how many may start in the time
-- `per`, and `burst` how many may start at once after a pause. 0 takes the limit away.
--
-- Locks the endpoint's row; if it has or gets a limit, then also the changes of rules and the lanes of endpoints' kinds.
create function breakwater.set_endpoint(
    name text, url text default null, secrets text[] default null, headers jsonb default null,
    disable_after interval default null, concurrency integer default null, rate double precision default null,
    per interval default '1 second', burst integer default null, reason text default null,
    actor text default session_user
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_old    breakwater.endpoint;
    v_limit  breakwater.key_limit;
    v_is_new boolean;
begin
    select * into v_old from breakwater.endpoint e where e.name = set_endpoint.name collate "C" for update;
    v_is_new := not found;
    if v_is_new and set_endpoint.url is null then
        raise exception 'there is no endpoint ''%'', and a new one needs a url', set_endpoint.name using errcode = '22023';
    end if;
    if array_position(set_endpoint.secrets, null) is not null then
        raise exception 'a secret of the endpoint ''%'' is null', set_endpoint.name using errcode = '22023';
    end if;
    perform breakwater.check_endpoint(
        set_endpoint.name, coalesce(set_endpoint.url, v_old.url), coalesce(set_endpoint.secrets, v_old.secrets, '{}'),
        coalesce(set_endpoint.headers, v_old.headers, '{}'), set_endpoint.disable_after);
    if set_endpoint.headers is null and v_old.headers <> '{}'
       and breakwater.origin_of(set_endpoint.url) is distinct from breakwater.origin_of(v_old.url)
       and set_endpoint.url is not null
    then
        raise exception 'the url of the endpoint ''%'' now has another scheme, host or port, and its % would be sent there',
                set_endpoint.name,
                (select 'headers ' || string_agg(h, ', ' order by h) from jsonb_object_keys(v_old.headers) h)
            using errcode = '22023',
                  hint = 'Give the headers for the new url too, or ''{}'' for none (worker endpoints set: --header or '
                         || '--no-headers).';
    end if;
    v_limit := breakwater.endpoint_limit(v_old, set_endpoint.name, set_endpoint.concurrency, set_endpoint.rate, per, burst);
    insert into breakwater.endpoint as e (name, url, secrets, headers, disable_after, concurrency, rate, burst)
    values (set_endpoint.name, coalesce(set_endpoint.url, v_old.url),
            coalesce(set_endpoint.secrets, v_old.secrets, '{}'), coalesce(set_endpoint.headers, v_old.headers, '{}'),
            coalesce(set_endpoint.disable_after, v_old.disable_after), v_limit.concurrency, v_limit.rate, v_limit.burst)
    on conflict on constraint endpoint_pkey do update
       set url = excluded.url, secrets = excluded.secrets, headers = excluded.headers,
           disable_after = excluded.disable_after, concurrency = excluded.concurrency, rate = excluded.rate,
           burst = excluded.burst, updated_at = now();
    if (v_limit.concurrency, v_limit.rate, v_limit.burst) is distinct from (v_old.concurrency, v_old.rate, v_old.burst) then
        perform breakwater.apply_endpoint_limits();
    end if;
    -- Neither URLs nor values are recorded, because they may contain secrets.
    perform breakwater.record_action(
        actor, 'endpoint.set', set_endpoint.name, reason,
        jsonb_strip_nulls(jsonb_build_object(
            'is_new', v_is_new, 'changes_url', set_endpoint.url is distinct from v_old.url and set_endpoint.url is not null,
            'secrets', cardinality(set_endpoint.secrets),
            'headers', (select jsonb_agg(h order by h) from jsonb_object_keys(set_endpoint.headers) h),
            'disable_after', set_endpoint.disable_after,
            'concurrency', set_endpoint.concurrency, 'rate', set_endpoint.rate,
            'per', case when set_endpoint.rate is not null then per end, 'burst', set_endpoint.burst)));
    return v_is_new;
end
$$;

-- Stops deliveries to an endpoint until it is enabled. Its jobs are held, or become dead letters, as the handler says.
-- Returns false if it does not exist. Locks the endpoint's row, then its circuits.
create function breakwater.disable_endpoint(name text, reason text, actor text default session_user) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if coalesce(disable_endpoint.reason, '') = '' then
        raise exception 'disabling an endpoint needs a reason' using errcode = '22023';
    end if;
    perform from breakwater.endpoint e where e.name = disable_endpoint.name collate "C" for update;
    if not found then
        return false;
    end if;
    perform breakwater.do_disable_endpoint(disable_endpoint.name, disable_endpoint.reason, actor, false);
    return true;
end
$$;

-- Lets a disabled endpoint have deliveries again, and forgets its failures. It also ends a hold of its circuits that is
-- left from before. Returns false if it does not exist, or is neither disabled nor held. Locks the endpoint's row, then
-- its circuits.
create function breakwater.enable_endpoint(name text, reason text default null, actor text default session_user)
returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_was_disabled boolean;
    v_released     integer;
begin
    -- The row is locked even if it is enabled: register_endpoint_kinds may be about to hold its circuits.
    perform from breakwater.endpoint e where e.name = enable_endpoint.name collate "C" for update;
    if not found then
        return false;
    end if;
    update breakwater.endpoint e
       set disabled_at = null, disabled_by = null, disabled_reason = null, failing_since = null, failed_at = null,
           last_failure = null, updated_at = now()
     where e.name = enable_endpoint.name collate "C" and e.disabled_at is not null;
    v_was_disabled := found;
    v_released := breakwater.release_endpoint(
        enable_endpoint.name, coalesce(nullif(enable_endpoint.reason, ''), 'the endpoint is enabled'), actor);
    if not v_was_disabled and v_released = 0 then
        return false;
    end if;
    perform breakwater.record_action(actor, 'endpoint.enable', enable_endpoint.name, enable_endpoint.reason);
    return true;
end
$$;

-- Deletes an endpoint. Its waiting jobs become dead letters when they run. Returns false if it does not exist.
create function breakwater.remove_endpoint(name text, reason text default null, actor text default session_user)
returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_endpoint breakwater.endpoint;
begin
    delete from breakwater.endpoint e where e.name = remove_endpoint.name collate "C" returning e.* into v_endpoint;
    if not found then
        return false;
    end if;
    if num_nonnulls(v_endpoint.concurrency, v_endpoint.rate) > 0 then
        perform breakwater.apply_endpoint_limits();
    end if;
    perform breakwater.record_action(actor, 'endpoint.remove', remove_endpoint.name, remove_endpoint.reason);
    perform breakwater.release_endpoint(
        remove_endpoint.name, coalesce(nullif(remove_endpoint.reason, ''), 'the endpoint is removed'), actor);
    return true;
end
$$;

-- Puts back the dead letters of an endpoint that died since a time, the oldest, at most limit_to. Returns how many.
-- Those that redrive_some would leave are left out, and do not count. Deliveries that succeeded are not repeated,
-- because a job that is done is deleted.
--
-- A client that puts back many in portions gives the time of the first portion as `until`. Otherwise jobs that die
-- again meanwhile would be put back again. When the result is 0, nothing is left to do.
create function breakwater.redeliver_endpoint(
    name text, since timestamptz, limit_to integer default 1000, reason text default null,
    actor text default session_user, until timestamptz default null
) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_ids bigint[];
begin
    if redeliver_endpoint.since is null or limit_to is null or limit_to < 1 then
        raise exception 'redelivering needs the time since when, and a limit of at least 1' using errcode = '22023';
    end if;
    v_ids := array(
        select d.id
          from breakwater.endpoint_kind k
          join breakwater.dead_letter d on d.kind = k.kind
         where d.died_at >= redeliver_endpoint.since
           and (redeliver_endpoint.until is null or d.died_at <= redeliver_endpoint.until)
           and breakwater.key_of(d.payload, k.path) = redeliver_endpoint.name collate "C"
           -- As in pick_dead_letters.
           and d.reason <> 'unreadable'
           and not (d.unique_key is not null and exists (
                   select from breakwater.job j where j.kind = d.kind and j.unique_key = d.unique_key))
         order by d.died_at, d.id
         limit limit_to
           for update of d skip locked);
    if v_ids = '{}' then
        return 0;
    end if;
    return (select r.done from breakwater.redrive_some(
                v_ids, null, null, null, null, limit_to, coalesce(reason, 'redelivered to ' || redeliver_endpoint.name),
                actor) r);
end
$$;

-- Endpoints without their secrets: only how many there are, the names of the headers, and the URL without its query.
create view breakwater.endpoint_status as
select e.name, split_part(e.url, '?', 1) as url, cardinality(e.secrets) as secrets,
       array(select h from jsonb_object_keys(e.headers) h order by h) as headers,
       e.disable_after, e.concurrency, e.rate, e.burst, e.disabled_at, e.disabled_by, e.disabled_reason, e.failing_since, e.failed_at, e.last_failure,
       array(select c.kind || ': ' || c.state from breakwater.circuit c
               join breakwater.endpoint_kind k on k.kind = c.kind
              where c.key = e.name and c.state <> 'closed' order by c.kind) as circuits,
       -- Jobs that wait behind its circuits, at most 1,001.
       (select count(*) from (
            select from breakwater.endpoint_kind k join breakwater.job j on j.kind = k.kind and j.parked = e.name
             limit 1001) w) as held,
       e.created_at, e.updated_at
  from breakwater.endpoint e;
