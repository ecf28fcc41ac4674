-- Schedules: their settings, and the functions by which users set, pause, resume, run and remove them.

-- Checks the settings of a schedule, and computes the next slot if it has none or if its times changed.
--
-- It is a trigger, so that rows written by hand are checked too. Locks nothing.
create function breakwater.check_schedule() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_fault text;
    v_hint  text := '';
begin
    if new.name is null or octet_length(new.name) not between 1 and 200 then
        v_fault := format('its name has %s bytes', coalesce(octet_length(new.name)::text, 'no'));
        v_hint := 'A schedule''s name has 1 to 200 bytes.';
    elsif breakwater.has_control_characters(new.name) then
        v_fault := format('its name %s has a control character', to_json(new.name));
    elsif num_nonnulls(new.cron, new.every) <> 1 then
        v_fault := case when new.cron is null then 'it has neither cron nor every'
                        else 'it has both cron and every' end;
        v_hint := 'Give one of them: cron => ''0 3 * * *'' or every => ''90s''.';
    elsif new.every is not null
          and (extract(month from new.every) <> 0 or extract(year from new.every) <> 0
               or extract(epoch from new.every) not between 1 and 315360000
               or extract(epoch from new.every) <> floor(extract(epoch from new.every))) then
        v_fault := format('every is %s', new.every);
        v_hint := 'It is a whole number of seconds, 1 second to 3650 days. For months and years, use cron.';
    elsif new.missed is null or new.missed not in ('one', 'all', 'skip') then
        v_fault := format('missed is %s', coalesce(to_json(new.missed)::text, 'NULL'));
        v_hint := 'It is one, all or skip.';
    elsif new.missed_after is null or extract(epoch from new.missed_after) not between 1 and 315360000 then
        v_fault := format('missed_after is %s', coalesce(new.missed_after::text, 'NULL'));
        v_hint := 'It is 1 second to 3650 days.';
    elsif new.missed_limit is null or new.missed_limit not between 1 and 1000 then
        v_fault := format('missed_limit is %s', coalesce(new.missed_limit::text, 'NULL'));
        v_hint := 'It is 1 to 1000.';
    elsif new.overlap is null or new.overlap not in ('allow', 'skip') then
        v_fault := format('overlap is %s', coalesce(to_json(new.overlap)::text, 'NULL'));
        v_hint := 'It is allow or skip.';
    elsif new.payload is null or jsonb_typeof(new.payload) <> 'object' or new.payload ? 'schedule' then
        v_fault := case when new.payload ? 'schedule' then 'its payload has the key schedule'
                        else 'its payload is not a JSON object' end;
        v_hint := 'Each job''s payload gets the key schedule, with the name, the slot and the slot before.';
    elsif pg_column_size(new.payload) > 1048576 then
        v_fault := format('its payload has %s bytes', pg_column_size(new.payload));
        v_hint := 'It has at most 1 MiB.';
    elsif octet_length(new.unique_key) not between 1 and 500 then
        v_fault := format('its unique_key has %s bytes', octet_length(new.unique_key));
        v_hint := 'It has 1 to 500 bytes.';
    elsif (tg_op = 'INSERT' or new.time_zone is distinct from old.time_zone)
          and not exists (select from pg_timezone_names z where z.name = new.time_zone collate "C") then
        v_fault := format('the time zone %s is not known', coalesce(to_json(new.time_zone)::text, 'NULL'));
        v_hint := coalesce(
            (select format('Did you mean %s?', z.name) from pg_timezone_names z
              where lower(z.name) = lower(new.time_zone) order by z.name limit 1),
            'Give a name such as Europe/Berlin; SELECT name FROM pg_timezone_names lists those of this server.');
    end if;
    if v_fault is not null then
        raise exception 'the schedule is wrong: %', v_fault using errcode = '22023', hint = v_hint;
    end if;
    perform breakwater.check_enqueue(new.kind, new.queue, new.priority, null);
    if tg_op = 'INSERT' or new.cron is distinct from old.cron then
        new.parsed := case when new.cron is not null then breakwater.read_cron(new.cron) end;
    end if;
    if tg_op = 'INSERT' then
        new.next_at := coalesce(new.next_at,
                                breakwater.next_slot(new.parsed, new.every, new.time_zone, breakwater.clock()));
    elsif (new.cron, new.every, new.time_zone) is distinct from (old.cron, old.every, old.time_zone) then
        new.next_at := breakwater.next_slot(new.parsed, new.every, new.time_zone, breakwater.clock());
        new.error := null;
        new.error_at := null;
    end if;
    return new;
end
$$;

create trigger check_schedule
    before insert or update of name, cron, every, time_zone, kind, queue, payload, priority, unique_key, missed,
                               missed_after, missed_limit, overlap
    on breakwater.schedule for each row execute function breakwater.check_schedule();

-- The settings of a schedule, without its state.
create function breakwater.settings_of(p_schedule breakwater.schedule) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select jsonb_build_object(
        'cron', p_schedule.cron, 'every', p_schedule.every, 'time_zone', p_schedule.time_zone,
        'kind', p_schedule.kind, 'queue', p_schedule.queue, 'payload', p_schedule.payload,
        'priority', p_schedule.priority, 'unique_key', p_schedule.unique_key, 'missed', p_schedule.missed,
        'missed_after', p_schedule.missed_after, 'missed_limit', p_schedule.missed_limit,
        'overlap', p_schedule.overlap)
$$;

-- The same without those that are null, for the audit log. The payload keeps its nulls.
create function breakwater.set_settings_of(p_schedule breakwater.schedule) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select jsonb_strip_nulls(breakwater.settings_of(p_schedule) - 'payload')
           || jsonb_build_object('payload', p_schedule.payload)
$$;

-- Adds a schedule, or changes the settings of one. `p_settings` has a schedule's name and settings; those that it leaves
-- out and those that are null get their defaults. Nothing is written if it changes nothing, so the next slot stays.
--
-- If the times change, slots of the old times that are already due are dealt with first. `p_worker` is the name of the
-- worker whose configuration names the schedule, null for a user. Locks the schedule's row.
create function breakwater.put_schedule(p_settings jsonb, p_worker text, p_reason text, p_actor text)
returns timestamptz
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    -- The kind has no default: without one, the schedule is refused.
    c_defaults constant jsonb := '{"time_zone": "UTC", "kind": "", "queue": "default", "priority": 5, "missed": "one",
        "missed_after": "1 minute", "missed_limit": 100, "overlap": "allow"}';
    v_new     breakwater.schedule := jsonb_populate_record(
        null::breakwater.schedule,
        c_defaults || jsonb_strip_nulls(p_settings - 'payload')
        || jsonb_build_object('payload', coalesce(nullif(p_settings -> 'payload', 'null'), '{}')));
    v_actor   text := left(coalesce(nullif(p_actor, ''), session_user), 200);
    v_old     breakwater.schedule;
    v_changes jsonb;
begin
    -- The insert's trigger checks all settings, even if they then turn out to be unchanged. So the row is looked up
    -- first.
    select * into v_old from breakwater.schedule s where s.name = v_new.name for update;
    if not found then
        insert into breakwater.schedule (name, cron, every, time_zone, kind, queue, payload, priority, unique_key,
                                         missed, missed_after, missed_limit, overlap, set_by, configured_by,
                                         configured_at)
        values (v_new.name, v_new.cron, v_new.every, v_new.time_zone, v_new.kind, v_new.queue, v_new.payload,
                v_new.priority, v_new.unique_key, v_new.missed, v_new.missed_after, v_new.missed_limit, v_new.overlap,
                v_actor, p_worker, case when p_worker is not null then now() end)
        on conflict (name) do nothing
        returning next_at into v_new.next_at;
        if not found then
            -- Somebody added it at this moment.
            return breakwater.put_schedule(p_settings, p_worker, p_reason, p_actor);
        end if;
        perform breakwater.record_action(p_actor, 'schedule.set', v_new.name, p_reason,
                                         jsonb_build_object('to', breakwater.set_settings_of(v_new)));
        return v_new.next_at;
    end if;
    if p_worker is not null then
        update breakwater.schedule s set configured_by = p_worker, configured_at = now() where s.name = v_new.name;
    end if;
    select jsonb_object_agg(n.key, jsonb_build_object('from', o.value, 'to', n.value)) into v_changes
      from jsonb_each(breakwater.settings_of(v_new)) n
      join jsonb_each(breakwater.settings_of(v_old)) o on o.key = n.key
     where o.value <> n.value;
    if v_changes is null then
        return v_old.next_at;
    end if;
    if v_changes ?| '{cron,every,time_zone}' then
        perform breakwater.run_due_slots(v_old.name);
    end if;
    update breakwater.schedule s
       set (cron, every, time_zone, kind, queue, payload, priority, unique_key, missed, missed_after, missed_limit,
            overlap)
         = (v_new.cron, v_new.every, v_new.time_zone, v_new.kind, v_new.queue, v_new.payload, v_new.priority,
            v_new.unique_key, v_new.missed, v_new.missed_after, v_new.missed_limit, v_new.overlap),
           set_by = v_actor, set_at = now()
     where s.name = v_new.name
    returning s.next_at into v_new.next_at;
    perform breakwater.record_action(p_actor, 'schedule.set', v_new.name, p_reason, v_changes);
    return v_new.next_at;
end
$$;

-- Adds a schedule, or replaces the settings of one: those that are left out or null get their defaults. Returns its
-- next slot.
--
-- A cron expression has its local times in time_zone. An interval is a whole number of seconds; its slots are its
-- multiples since 1970-01-01 00:00 UTC. Each job's payload gets the key `schedule`, with the schedule's `name`, the
-- `slot`, and the `previous` slot that got a job. See 79_run_schedules.sql for missed slots and overlaps.
create function breakwater.set_schedule(
    name         text,
    cron         text default null,
    every        interval default null,
    time_zone    text default 'UTC',
    kind         text default null,
    payload      jsonb default '{}',
    queue        text default 'default',
    priority     integer default 5,
    unique_key   text default null,
    missed       text default 'one',
    missed_after interval default '1 minute',
    missed_limit integer default 100,
    overlap      text default 'allow',
    reason       text default null,
    actor        text default session_user
) returns timestamptz
language sql security definer set search_path = pg_catalog, pg_temp
as $$
    select breakwater.put_schedule(
        jsonb_build_object('name', name, 'cron', cron, 'every', every, 'time_zone', time_zone, 'kind', kind,
                           'payload', payload, 'queue', queue, 'priority', priority, 'unique_key', unique_key,
                           'missed', missed, 'missed_after', missed_after, 'missed_limit', missed_limit,
                           'overlap', overlap),
        null, reason, actor)
$$;

-- Sets the schedules that a worker's configuration names. `p_schedules` is an array of objects with a schedule's name
-- and settings. Other schedules are left as they are. A message about a fault begins with the schedule's place in the
-- configuration. The names are sorted, so that workers that start together lock the rows in the same order.
create function breakwater.set_configured_schedules(p_worker text, p_schedules jsonb) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule jsonb;
    v_message  text;
    v_hint     text;
begin
    for v_schedule in
        select s.value from jsonb_array_elements(p_schedules) s(value) order by s.value ->> 'name' collate "C"
    loop
        begin
            perform breakwater.put_schedule(v_schedule, p_worker, 'the worker''s configuration', p_worker);
        exception when invalid_parameter_value then
            get stacked diagnostics v_message = message_text, v_hint = pg_exception_hint;
            raise exception 'schedules.%: %', v_schedule ->> 'name', v_message using errcode = '22023', hint = v_hint;
        end;
    end loop;
end
$$;

-- Returns a schedule that a user is about to change, with its row locked. Refused if it does not exist.
create function breakwater.lock_schedule(p_name text) returns breakwater.schedule
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule breakwater.schedule;
begin
    select * into v_schedule from breakwater.schedule s where s.name = p_name collate "C" for update;
    if not found then
        raise exception 'there is no schedule %', coalesce(quote_literal(p_name), 'NULL')
            using errcode = 'P0002', hint = 'SELECT name FROM breakwater.schedule lists them.';
    end if;
    return v_schedule;
end
$$;

-- Stops a schedule until it is resumed. Slots that come meanwhile get no job, neither then nor later. Slots that are
-- due already are dealt with first; if that fails, the schedule is paused nevertheless, with the reason as its error
-- and in the audit log. Jobs that it has enqueued are not affected. Locks the schedule's row.
create function breakwater.pause_schedule(name text, reason text, actor text default session_user) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_schedule breakwater.schedule := breakwater.lock_schedule(pause_schedule.name);
    v_error    text;
begin
    if pause_schedule.reason is null or pause_schedule.reason = '' then
        raise exception 'pausing needs a reason' using errcode = '22023';
    end if;
    begin
        perform breakwater.run_due_slots(v_schedule.name);
    exception when others then
        v_error := format('%s (SQLSTATE %s)', sqlerrm, sqlstate);
        update breakwater.schedule s set error = left(v_error, 2000), error_at = breakwater.clock()
         where s.name = v_schedule.name;
    end;
    update breakwater.schedule s
       set paused_at = coalesce(s.paused_at, now()), paused_by = left(coalesce(actor, session_user), 200),
           pause_reason = left(pause_schedule.reason, 2000)
     where s.name = v_schedule.name;
    perform breakwater.record_action(actor, 'schedule.pause', v_schedule.name, pause_schedule.reason,
                                     case when v_error is not null then jsonb_build_object('due_slots', v_error) else '{}' end);
end
$$;

-- Lets a paused schedule continue with its next slot. Returns that slot, or null if the schedule was not paused. Locks
-- the schedule's row.
create function breakwater.resume_schedule(name text, reason text default null, actor text default session_user)
returns timestamptz
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_schedule breakwater.schedule := breakwater.lock_schedule(resume_schedule.name);
    v_next     timestamptz := greatest(
        v_schedule.next_at,
        breakwater.next_slot(v_schedule.parsed, v_schedule.every, v_schedule.time_zone, breakwater.clock()));
begin
    if v_schedule.paused_at is null then
        return null;
    end if;
    update breakwater.schedule s
       set paused_at = null, paused_by = null, pause_reason = null, next_at = v_next, error = null, error_at = null
     where s.name = v_schedule.name;
    perform breakwater.record_action(actor, 'schedule.resume', v_schedule.name, resume_schedule.reason,
                                     jsonb_build_object('next_at', v_next));
    return v_next;
end
$$;

-- Removes a schedule and the record of its slots. Jobs that it has enqueued stay. Returns false if it does not exist. A
-- worker whose configuration names it sets it again when it starts.
create function breakwater.remove_schedule(name text, reason text default null, actor text default session_user)
returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_schedule breakwater.schedule;
begin
    delete from breakwater.schedule s where s.name = remove_schedule.name collate "C" returning s.* into v_schedule;
    if not found then
        return false;
    end if;
    perform breakwater.record_action(
        actor, 'schedule.remove', v_schedule.name, remove_schedule.reason,
        jsonb_build_object('settings', breakwater.set_settings_of(v_schedule)));
    return true;
end
$$;
