-- Incidents. An incident lasts from a circuit's first opening to its close. If the circuit opens again soon, this
-- belongs to the same incident.
--
-- A transition writes the incident itself. The leader counts what the incident cost, in bounded steps and some seconds
-- later, so that no settle waits for that. The leader writes only to breakwater.incident_measure, which no transition
-- touches.

-- Begins, continues or ends the incident of a circuit whose state changes. The caller has locked the circuit's row.
--
-- The last incident continues if the circuit was closed for less than its window, or for less time than it had been
-- open (a relapse). After an hour, an opening always begins a new incident.
create function breakwater.record_incident(
    p_old breakwater.circuit, p_new breakwater.circuit, p_to text, p_reason text, p_actor text, p_evidence jsonb,
    p_is_relapse boolean, p_window interval
) returns void
language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off
as $$
declare
    v_now  timestamptz := breakwater.clock();
    v_last breakwater.circuit_incident;
begin
    select * into v_last from breakwater.circuit_incident i
     where i.kind = p_old.kind and i.key = p_old.key
     order by i.id desc limit 1;
    if p_to = 'open' and p_old.state = 'closed' then
        if v_last.ended_at > v_now - (case when p_is_relapse then interval '1 hour'
                                              else least(p_window, interval '1 hour') end)
        then
            update breakwater.circuit_incident i
               set ended_at = 'infinity', openings = i.openings + 1, opened_at = v_now, end_reason = null,
                   confirmed_at = case when p_new.is_checked then coalesce(i.confirmed_at, v_now) else i.confirmed_at end
             where i.id = v_last.id;
        else
            insert into breakwater.circuit_incident (
                kind, key, began_at, opened_at, confirmed_at, cause, actor, evidence)
            values (p_old.kind, p_old.key, v_now, v_now, case when p_new.is_checked then v_now end, p_reason, p_actor,
                    p_evidence);
        end if;
    elsif p_to = 'open' then
        update breakwater.circuit_incident i set confirmed_at = v_now
         where i.id = v_last.id and i.ended_at = 'infinity' and i.confirmed_at is null;
    elsif p_to = 'closed' then
        update breakwater.circuit_incident i
           set ended_at = v_now, end_reason = p_reason,
               time_open = i.time_open + (v_now - i.opened_at),
               false_alarms = i.false_alarms
                              + (p_actor is null and p_old.state = 'half_open' and not p_old.is_checked)::integer
         where i.id = v_last.id and i.ended_at = 'infinity';
    end if;
end
$$;

-- Begins to count the cost of an incident, if that has not begun.
create function breakwater.begin_measure(p_incident breakwater.circuit_incident) returns void
language sql set search_path = pg_catalog, pg_temp set seq_page_cost = 0 set random_page_cost = 0 set jit = off
as $$
    insert into breakwater.incident_measure (incident, measured_at, counted_to, calls_before)
    select p_incident.id, '-infinity', p_incident.began_at - interval '1 microsecond',
           coalesce(sum(t.succeeded + t.failed), 0) / 10.0
      from breakwater.tally t
     where t.kind = p_incident.kind and t.key = p_incident.key and t.generation > 0
       and t.slot >= p_incident.began_at - interval '10 minutes' and t.slot < p_incident.began_at
    having not exists (select from breakwater.incident_measure m where m.incident = p_incident.id)
$$;

-- Counts a failed probe whose attempt was handed back for good, because its round did not close the circuit.
create function breakwater.record_handed_back(p_result breakwater.probe_result) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_incident breakwater.circuit_incident;
begin
    select * into v_incident from breakwater.circuit_incident i
     where i.kind = p_result.kind and i.key = p_result.key and i.began_at <= p_result.at
     order by i.id desc limit 1;
    if found then
        perform breakwater.begin_measure(v_incident);
        update breakwater.incident_measure m set handed_back = m.handed_back + 1 where m.incident = v_incident.id;
    end if;
end
$$;

-- The kinds of job whose calls belong to a circuit.
create function breakwater.kinds_of(p_kind text, p_key text) returns text[]
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select case when p_kind <> '*' then array[p_kind]
                else array(select h.kind from breakwater.handler h
                            where breakwater.is_handler_of(h.kind, h.shared_key, p_kind, p_key)) end
$$;

-- Whether a dead letter's job belonged to a circuit, as far as its payload shows. The caller has checked its kind.
create function breakwater.belongs_to_circuit(p_dead breakwater.dead_letter, p_kind text, p_key text) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select p_kind = '*' or p_key = ''
        or exists (select from breakwater.handler h
                    where h.kind = p_dead.kind and breakwater.key_of(p_dead.payload, h.key_path) = p_key collate "C")
$$;

-- The dead letters of an incident: those of its circuit that died from its first opening to its close and still exist;
-- at most p_limit, null for all. breakwater.pick_dead_letters uses the same rule.
create function breakwater.dead_letters_of_incident(p_incident bigint, p_limit bigint default null)
returns setof breakwater.dead_letter
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan set jit = off
as $$
declare
    v_incident breakwater.circuit_incident;
    v_kinds    text[];
begin
    select * into v_incident from breakwater.circuit_incident i where i.id = p_incident;
    v_kinds := breakwater.kinds_of(v_incident.kind, v_incident.key);
    return query
        select d.* from breakwater.dead_letter d
         where d.kind = any (v_kinds) and d.died_at >= v_incident.began_at and d.died_at <= v_incident.ended_at
           and breakwater.belongs_to_circuit(d, v_incident.kind, v_incident.key)
         limit p_limit;
end
$$;

-- Counts the cost of at most p_limit incidents that continue or ended within the last hour, each at most every five
-- seconds.
create function breakwater.measure_incidents(p_limit integer) returns void
language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off
as $$
declare
    v_incident breakwater.circuit_incident;
begin
    for v_incident in
        select i.* from breakwater.circuit_incident i
          left join breakwater.incident_measure m on m.incident = i.id
         where i.ended_at > breakwater.clock() - interval '1 hour'
           and (m.incident is null
                or (m.measured_at <= breakwater.clock() - interval '5 seconds'
                    and (i.ended_at = 'infinity' or m.complete_opening <> i.openings)))
         order by m.measured_at nulls first, i.id
         limit p_limit
    loop
        perform breakwater.measure_incident(v_incident);
    end loop;
end
$$;

-- Counts the cost of one incident since it was last counted, for at most ten minutes of it; and how many jobs wait now.
--
-- A settle becomes visible with some delay, so everything of the last five seconds is left for the next time. Failed
-- calls come from breakwater.failure, by the time when they were settled; calls come from the tallies, by the second.
create function breakwater.measure_incident(p_incident breakwater.circuit_incident) returns void
language plpgsql set search_path = pg_catalog, pg_temp
set seq_page_cost = 0 set random_page_cost = 0 set plan_cache_mode = force_custom_plan set jit = off
as $$
declare
    v_measure breakwater.incident_measure;
    v_kinds   text[] := breakwater.kinds_of(p_incident.kind, p_incident.key);
    v_from    timestamptz;
    v_to      timestamptz;
    v_waiting bigint;
    v_waited  interval;
begin
    perform breakwater.begin_measure(p_incident);
    select * into v_measure from breakwater.incident_measure m where m.incident = p_incident.id;
    v_from := v_measure.counted_to;
    v_to := greatest(v_from, least(p_incident.ended_at, breakwater.clock() - interval '5 seconds',
                                   v_from + interval '10 minutes'));
    if p_incident.ended_at = 'infinity' then
        select b.waiting into v_waiting
          from breakwater.waiting_behind(array[p_incident.kind], array[p_incident.key], 100000) b;
        v_waited := breakwater.longest_wait_behind(p_incident.kind, p_incident.key, v_kinds);
    end if;
    update breakwater.incident_measure m
       set measured_at = breakwater.clock(),
           counted_to = v_to,
           complete_opening = case when v_to >= p_incident.ended_at then p_incident.openings else 0 end,
           calls = m.calls + (select coalesce(sum(t.succeeded + t.failed), 0) from breakwater.tally t
                               where t.kind = p_incident.kind and t.key = p_incident.key and t.generation > 0
                                 and t.slot > v_from and t.slot <= v_to),
           failed = m.failed + (select coalesce(sum(f.failed), 0) from breakwater.failure f
                                 where f.kind = p_incident.kind and f.key = p_incident.key
                                   and f.at > v_from and f.at <= v_to),
           dead_letters = m.dead_letters
                          + (select count(*) from breakwater.dead_letter d
                              where d.kind = any (v_kinds) and d.died_at > v_from and d.died_at <= v_to
                                and breakwater.belongs_to_circuit(d, p_incident.kind, p_incident.key)),
           first_waiting = coalesce(m.first_waiting, v_waiting),
           most_waiting = greatest(m.most_waiting, v_waiting),
           last_waiting = coalesce(v_waiting, m.last_waiting),
           longest_wait = greatest(m.longest_wait, v_waited)
     where m.incident = p_incident.id;
end
$$;

-- The longest time that the first job of a lane of a circuit's kinds has been ready. For a key's circuit, it is the
-- longest time among the first thousand jobs that are parked for it. null: no job waits.
create function breakwater.longest_wait_behind(p_kind text, p_key text, p_kinds text[]) returns interval
language sql stable set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off
as $$
    select max(breakwater.clock() - o.ready_at)
      from (select j.ready_at
              from breakwater.lane a
             cross join lateral (
                   select w.ready_at from breakwater.job w
                    where w.queue = a.queue and w.kind = a.kind and w.priority = a.priority and w.run_at is null
                    order by w.position limit 1) j
             where a.kind = any (p_kinds) and (p_kind = '*' or p_key = '')
            union all
            (select j.ready_at from breakwater.job j
              where p_kind <> '*' and p_key <> '' and j.kind = p_kind collate "C" and j.parked = p_key collate "C"
              order by j.priority, j.position limit 1000)) o
     where isfinite(o.ready_at)
$$;

-- Deletes incidents that ended a year ago.
create function breakwater.prune_incidents(p_limit integer) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
    with old as (
        delete from breakwater.circuit_incident i where i.id = any (array(
            select o.id from breakwater.circuit_incident o
             where o.ended_at < now() - interval '1 year' order by o.ended_at limit p_limit))
        returning i.id
    ), measures as (
        delete from breakwater.incident_measure m using old o where m.incident = o.id
    )
    delete from breakwater.incident_notice n using old o where n.incident = o.id
$$;

-- Each incident with its cost. While it continues, the counts are some seconds behind. They are null if it ended before
-- the first count.
--
-- attempts_spent are the failed calls from its first opening to its close, less the probes whose attempts were handed
-- back. calls_spared is an estimate: the calls that would have been made at the rate of the ten minutes before, minus
-- those that were made.
create view breakwater.incident as
select i.id, i.kind, i.key, breakwater.circuit_name(i.kind, i.key) as circuit,
       i.began_at, nullif(i.ended_at, 'infinity') as ended_at, e.at - i.began_at as duration,
       i.time_open + case when i.ended_at = 'infinity' then e.at - i.opened_at else '0' end as time_open,
       i.openings, i.ended_at < 'infinity' and i.false_alarms = i.openings as is_false_alarm,
       i.cause, i.actor, i.evidence, i.end_reason,
       m.first_waiting as waiting_at_begin, m.most_waiting,
       case when i.ended_at < 'infinity' then m.last_waiting end as waiting_at_end, m.last_waiting as waiting,
       m.longest_wait,
       case when m.incident is not null then greatest(m.failed - m.handed_back, 0) end as attempts_spent, m.handed_back, m.dead_letters,
       (select count(*) from breakwater.dead_letters_of_incident(i.id, 10000) d) as dead_letters_left,
       m.calls_before as calls_a_minute_before, m.calls,
       case when m.incident is not null then
           greatest(0, round(m.calls_before * extract(epoch from e.at - i.began_at)::float8 / 60) - m.calls)::bigint
       end as calls_spared,
       coalesce(m.complete_opening = i.openings, false) as is_counted
  from breakwater.circuit_incident i
  left join breakwater.incident_measure m on m.incident = i.id
 cross join lateral (select least(i.ended_at, breakwater.clock()) as at) e;
