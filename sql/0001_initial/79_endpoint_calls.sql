-- What workers read and report of endpoints, and the messages about endpoints that were disabled.

-- The endpoints of these names, with their secrets, for workers.
create function breakwater.endpoints_named(p_names text[])
returns table (
    name text, url text, secrets text[], headers jsonb, disabled_reason text, is_failing boolean
)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select e.name, e.url, e.secrets, e.headers,
           case when e.disabled_at is not null then coalesce(e.disabled_reason, '') end, e.failing_since is not null
      from breakwater.endpoint e
     where e.name = any (p_names collate "C")
$$;

-- Registers the kinds whose jobs are sent to endpoints: an array of objects with the kind, the path, `disable_after` in
-- seconds (null: never), and `when_disabled`. Endpoints that are disabled are held for these kinds too.
--
-- That needs the handler of a kind, with the path as the key of its circuits. Returns whether all kinds have theirs. If
-- not, call it again when the worker has registered its handlers.
--
-- Locks: the kinds' rows; then the rows of disabled endpoints whose circuits have to be changed, and these circuits.
create function breakwater.register_endpoint_kinds(p_kinds jsonb) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_kind  record;
    v_names text[];
    v_held  record;
begin
    insert into breakwater.endpoint_kind as k (kind, path, disable_after, when_disabled)
    select n.kind, n.path, make_interval(secs => n.disable_after), n.when_disabled
      from jsonb_to_recordset(p_kinds) n(kind text, path text[], disable_after double precision, when_disabled text)
     order by n.kind collate "C"
    on conflict (kind) do update
       set path = excluded.path, disable_after = excluded.disable_after, when_disabled = excluded.when_disabled,
           updated_at = now()
     where (k.path, k.disable_after, k.when_disabled)
           is distinct from (excluded.path, excluded.disable_after, excluded.when_disabled);
    if found and exists (select from breakwater.endpoint e where num_nonnulls(e.concurrency, e.rate) > 0) then
        perform breakwater.apply_endpoint_limits();
    end if;
    for v_kind in
        select c.* from breakwater.endpoint_circuits() c
         where c.kind in (select n.kind collate "C" from jsonb_to_recordset(p_kinds) n(kind text))
    loop
        -- The endpoints with a circuit that has to be changed, and those that may get one. They are locked, so that
        -- none is enabled before its circuit is held, and left out if they have just been enabled.
        with changed as materialized (
            select e.name from breakwater.endpoint e
              join breakwater.circuit c on c.kind = v_kind.kind collate "C" and c.key = e.name
             where e.disabled_at is not null and breakwater.needs_hold(c, v_kind.when_disabled)
             order by e.name
               for share of e
        ), added as materialized (
            select e.name from breakwater.endpoint e
             where e.disabled_at is not null and v_kind.when_disabled = 'hold'
               and not exists (select from breakwater.circuit c
                                where c.kind = v_kind.kind collate "C" and c.key = e.name)
             order by e.name
             limit breakwater.free_endpoint_circuits(v_kind.kind)
               for share of e
        ), inserted as (
            insert into breakwater.circuit (kind, key, key_path)
            select v_kind.kind, a.name, v_kind.path from added a order by a.name
            on conflict do nothing
        )
        select array(select a.name from changed a union select a.name from added a) into v_names;
        for v_held in
            select e.name, e.disabled_reason, e.disabled_by from breakwater.endpoint e
             where e.name = any (v_names collate "C") and e.disabled_at is not null
             order by e.name
        loop
            perform breakwater.hold_circuit(
                v_kind.kind, v_held.name, v_kind.when_disabled, v_held.disabled_reason, v_held.disabled_by);
        end loop;
    end loop;
    return not exists (
        select from jsonb_to_recordset(p_kinds) n(kind text, path text[])
         where not exists (select from breakwater.handler h where h.kind = n.kind collate "C" and h.key_path = n.path));
end
$$;

-- Records how deliveries to endpoints ended: an array of objects with the kind, the endpoint's name, how many seconds
-- ago the last delivery succeeded (null: none did), the message of the last failure after that (null: none failed), how
-- many seconds ago the first failure after that was, and whether the last one was a 410.
--
-- Workers report all successes, because they do not know whether a delivery of another worker failed before. A success
-- ends the failing only if it came after it began. Nothing is written for an endpoint that was not failing.
--
-- An endpoint that has failed for as long as its rule says is disabled. One that answers 410 (Gone) is disabled at
-- once, as Standard Webhooks asks, unless its rule is never to disable it. Returns the names of these.
--
-- Locks: the endpoints' rows, in the order of their names; then the circuits of those that are disabled.
create function breakwater.record_endpoint_calls(p_calls jsonb) returns text[]
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_call     record;
    v_now      timestamptz := breakwater.clock();
    v_endpoint breakwater.endpoint;
    v_rule     interval;
    v_disabled text[] := '{}';
begin
    for v_call in
        select c.* from jsonb_to_recordset(p_calls) c(kind text, name text, succeeded_ago double precision, failure text,
                                                       failed_ago double precision, is_gone boolean)
         where c.failure is not null
            or exists (select from breakwater.endpoint e
                        where e.name = c.name collate "C" and e.failing_since is not null)
         order by c.name collate "C", c.kind collate "C"
    loop
        if v_call.succeeded_ago is not null then
            update breakwater.endpoint e set failing_since = null, failed_at = null, last_failure = null
             where e.name = v_call.name collate "C"
               and e.failing_since <= v_now - make_interval(secs => v_call.succeeded_ago);
        end if;
        continue when v_call.failure is null;
        -- One row is written at most once a minute, because a row that is updated each second would grow a chain of
        -- versions while another session holds a snapshot.
        update breakwater.endpoint e
           set failing_since = coalesce(e.failing_since, v_now - make_interval(secs => coalesce(v_call.failed_ago, 0))),
               failed_at = v_now, last_failure = left(v_call.failure, 500)
         where e.name = v_call.name collate "C" and e.disabled_at is null
           and (e.failing_since is null or e.failed_at < v_now - interval '1 minute' or v_call.is_gone)
        returning * into v_endpoint;
        continue when not found;
        v_rule := coalesce(v_endpoint.disable_after,
                           (select k.disable_after from breakwater.endpoint_kind k where k.kind = v_call.kind collate "C"));
        continue when coalesce(v_rule, '0') <= interval '0';
        if v_call.is_gone then
            perform breakwater.do_disable_endpoint(
                v_endpoint.name, 'it answered 410 (Gone): its owner wants no more deliveries', 'breakwater', true);
        elsif v_now - v_endpoint.failing_since >= v_rule then
            perform breakwater.do_disable_endpoint(
                v_endpoint.name,
                format('every delivery has failed since %s, for longer than %s; the last one: %s',
                       to_char(v_endpoint.failing_since at time zone 'UTC', 'YYYY-MM-DD HH24:MI"Z"'), justify_hours(v_rule),
                       left(v_call.failure, 300)),
                'breakwater', true);
        else
            continue;
        end if;
        v_disabled := v_disabled || v_endpoint.name;
    end loop;
    return v_disabled;
end
$$;

-- Reserves the next message about a disabled endpoint for one minute, during which no other worker gets it. All results
-- are null if none is due. A message that has been due for an hour is not sent any more: there was nobody to send it
-- to. Locks the row of the message, by SKIP LOCKED.
create function breakwater.next_endpoint_notice(
    out notice bigint, out endpoint text, out id text, out tries integer, out message text
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_notice breakwater.endpoint_notice;
begin
    select n.* into v_notice from breakwater.endpoint_notice n
     where n.next_try <= breakwater.clock() and n.next_try > breakwater.clock() - interval '1 hour'
     order by n.next_try, n.id limit 1
       for update skip locked;
    if not found then
        return;
    end if;
    update breakwater.endpoint_notice n
       set tries = n.tries + 1, first_tried = coalesce(n.first_tried, breakwater.clock()),
           next_try = breakwater.clock() + interval '1 minute'
     where n.id = v_notice.id;
    notice := v_notice.id;
    endpoint := v_notice.endpoint;
    id := 'endpoint_' || v_notice.id;
    tries := v_notice.tries + 1;
    message := v_notice.message;
end
$$;

-- Records how an attempt to deliver such a message ended. As with incidents, it is attempted again after 5 seconds, and
-- then after twice as long each time, up to 5 minutes, and given up an hour after the first attempt. Returns whether it
-- is given up.
create function breakwater.endpoint_notice_ended(p_notice bigint, p_tries integer, p_is_delivered boolean)
returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_notice breakwater.endpoint_notice;
begin
    select * into v_notice from breakwater.endpoint_notice n
     where n.id = p_notice and (n.tries = p_tries or p_is_delivered) for update;
    if not found then
        return false;
    elsif p_is_delivered or v_notice.first_tried <= breakwater.clock() - interval '1 hour' then
        delete from breakwater.endpoint_notice n where n.id = p_notice;
        return not p_is_delivered;
    end if;
    update breakwater.endpoint_notice n
       set next_try = breakwater.clock() + least(interval '5 minutes', interval '5 seconds' * 2 ^ least(p_tries - 1, 10))
     where n.id = p_notice;
    return false;
end
$$;

-- Deletes messages that next_endpoint_notice does not return any more, at most p_limit.
create function breakwater.prune_endpoint_notices(p_limit integer) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
    delete from breakwater.endpoint_notice n
     where n.id in (select o.id from breakwater.endpoint_notice o
                     where o.next_try <= breakwater.clock() - interval '1 hour'
                     order by o.id limit p_limit for update skip locked)
$$;
