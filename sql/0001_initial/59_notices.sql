-- Notices: the messages about incidents that workers with a `notify:` send to a program of the operator.
--
-- Each incident has two messages: that it began, and that it ended. The first waits until it is certain that the
-- incident is no false alarm: until a round of probes has failed, or a minute has passed. The second waits until the
-- circuit has been closed for as long as its window, twice as long after two openings, and so on up to ten minutes. So
-- a flapping circuit is announced once. If it opens again after its end was announced, it is announced once more as the
-- same incident.

-- A message that an incident began or ended, as JSON.
create function breakwater.notice_message(p_incident bigint, p_type text) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select jsonb_build_object(
        'type', 'incident.' || p_type,
        'timestamp', breakwater.clock(),
        'data', jsonb_strip_nulls(jsonb_build_object(
            'incident', i.id, 'circuit', i.circuit, 'kind', i.kind, 'key', nullif(i.key, ''),
            'cause', i.cause, 'actor', i.actor,
            'failures', i.evidence -> 'failures',
            'began_at', i.began_at, 'openings', i.openings,
            'waiting', case when p_type = 'began' then i.waiting else i.waiting_at_end end))
        || case when p_type = 'began' then '{}' else jsonb_build_object(
            'ended_at', i.ended_at, 'end_reason', i.end_reason, 'is_false_alarm', i.is_false_alarm,
            'seconds', round(extract(epoch from i.duration)), 'seconds_open', round(extract(epoch from i.time_open)),
            'most_waiting', i.most_waiting, 'longest_wait_seconds', round(extract(epoch from i.longest_wait)),
            'attempts_spent', i.attempts_spent, 'handed_back', i.handed_back,
            'dead_letters', i.dead_letters, 'calls_spared', i.calls_spared) end)
      from breakwater.incident i
     where i.id = p_incident
$$;

-- Reserves the next message that is due for one minute, during which no other worker gets it. All results are null if
-- none is due.
--
-- `id` is the same for each attempt to deliver a message. A message that was due an hour ago and was never attempted is
-- outdated and skipped.
--
-- Locks: the row of the notice, by SKIP LOCKED.
create function breakwater.next_notice(
    out incident bigint, out type text, out id text, out tries integer, out message text
)
language plpgsql security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off
as $$
#variable_conflict use_column
declare
    v_now    timestamptz := breakwater.clock();
    v_notice breakwater.incident_notice;
begin
    insert into breakwater.incident_notice (incident, next_try)
    select i.id, v_now from breakwater.circuit_incident i
     where i.ended_at > v_now - interval '1 hour'
       and (i.confirmed_at > v_now - interval '1 hour'
            or (i.confirmed_at is null and i.ended_at = 'infinity'
                and i.began_at > v_now - interval '1 hour' and i.opened_at <= v_now - interval '1 minute'))
       and not exists (select from breakwater.incident_notice n where n.incident = i.id)
    on conflict do nothing;

    select n.* into v_notice
      from breakwater.incident_notice n
      join breakwater.circuit_incident i on i.id = n.incident
     where i.ended_at > v_now - interval '2 hours'
       and n.next_try <= v_now
       and case when n.last_sent is null then true
                when n.last_sent = 'began' then
                    i.ended_at <= v_now - least(
                        interval '10 minutes',
                        i.openings * least(interval '10 minutes', coalesce(
                            (breakwater.policy_of(i.kind, i.key)).circuit_window, interval '1 minute')))
                else (n.tries > 0 or i.openings > n.openings_sent) and i.ended_at = 'infinity'
                     and i.opened_at <= v_now - interval '1 minute' end
     order by n.next_try, n.incident
     limit 1
       for update of n skip locked;
    if not found then
        return;
    end if;
    update breakwater.incident_notice n
       set tries = n.tries + 1, first_tried = coalesce(n.first_tried, v_now), next_try = v_now + interval '1 minute',
           openings_sent = (select i.openings from breakwater.circuit_incident i where i.id = n.incident)
     where n.incident = v_notice.incident;
    incident := v_notice.incident;
    type := case when v_notice.last_sent = 'began' then 'ended' else 'began' end;
    id := format('incident_%s_%s_%s', incident, v_notice.messages + 1, type);
    tries := v_notice.tries + 1;
    message := breakwater.notice_message(incident, type);
end
$$;

-- Records how an attempt to deliver a message ended. A message that was not delivered is attempted again after 5
-- seconds, and then after twice as long each time, up to 5 minutes. It is given up an hour after the first attempt. If
-- another worker has handled the message since, nothing is changed. Returns whether the message is given up.
create function breakwater.notice_ended(p_incident bigint, p_type text, p_tries integer, p_is_delivered boolean)
returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_now    timestamptz := breakwater.clock();
    v_notice breakwater.incident_notice;
begin
    select * into v_notice from breakwater.incident_notice n
     where n.incident = p_incident and n.tries > 0
       and p_type = case when n.last_sent = 'began' then 'ended' else 'began' end
       and (n.tries = p_tries or p_is_delivered)
       for update;
    if not found then
        return false;
    elsif p_is_delivered or v_notice.first_tried <= v_now - interval '1 hour' then
        update breakwater.incident_notice n
           set last_sent = p_type, messages = n.messages + 1, first_tried = null, tries = 0, next_try = v_now
         where n.incident = p_incident;
        return not p_is_delivered;
    end if;
    update breakwater.incident_notice n
       set next_try = v_now + least(interval '5 minutes', interval '5 seconds' * 2 ^ least(p_tries - 1, 10))
     where n.incident = p_incident;
    return false;
end
$$;
