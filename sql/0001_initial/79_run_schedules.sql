-- Running schedules: each slot is dealt with once, whichever worker leads.
--
-- A slot that is at most `missed_after` late gets a job. Later ones are missed: `one` gives them one job together, that
-- of the first slot on time after them or else that of the last of them; `all` gives a job to each of the last
-- `missed_limit` of them; `skip` gives them none.
--
-- Jobs of a schedule with `overlap => 'skip'` have a unique key. While the last one waits or runs, for instance behind
-- an open circuit, later slots get no job: the one that waits stands for them.

-- The first of the last p_limit slots in [p_from, p_until), where p_from is itself a slot.
create function breakwater.first_of_last_slots(
    p_schedule breakwater.schedule, p_from timestamptz, p_until timestamptz, p_limit integer
) returns timestamptz
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    v_span  interval := '1 hour';
    v_start timestamptz;
    v_slots timestamptz[];
begin
    if p_schedule.every is not null then
        -- Counted back from the end, many long intervals would begin before the earliest time that there is.
        if extract(epoch from p_until - p_from) <= p_limit * extract(epoch from p_schedule.every) then
            return p_from;
        end if;
        return greatest(p_from, breakwater.next_slot(null, p_schedule.every, null,
                                                     p_until - interval '1 microsecond' - p_limit * p_schedule.every));
    end if;
    -- Slots are only found forwards. So it begins shortly before the end, then earlier, until there are enough of them.
    loop
        v_start := greatest(p_from, p_until - v_span);
        v_slots := case when v_start = p_from then array[p_from] else '{}' end;
        v_start := v_start - case when v_start = p_from then interval '0' else interval '1 microsecond' end;
        loop
            v_start := breakwater.next_slot(p_schedule.parsed, null, p_schedule.time_zone, v_start);
            exit when v_start >= p_until or v_start is null;
            v_slots := v_slots || v_start;
        end loop;
        if cardinality(v_slots) >= p_limit or p_until - v_span <= p_from then
            return v_slots[greatest(1, cardinality(v_slots) - p_limit + 1)];
        end if;
        v_span := v_span * 4;
    end loop;
end
$$;

-- The due slots of a schedule that get a job, in order, at most p_limit, and the slot at which it continues. `missed`
-- counts the slots before those that get none, up to 1000, and last_missed is the last of them.
create function breakwater.due_slots(
    p_schedule breakwater.schedule, p_now timestamptz, p_limit integer,
    out slots timestamptz[], out next_at timestamptz, out missed integer, out last_missed timestamptz
)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    v_cutoff timestamptz := p_now - p_schedule.missed_after;
    v_first  timestamptz := p_schedule.next_at;
begin
    if v_first < v_cutoff then
        v_first := breakwater.next_slot(p_schedule.parsed, p_schedule.every, p_schedule.time_zone,
                                        v_cutoff - interval '1 microsecond');
        if p_schedule.missed = 'all' then
            v_first := breakwater.first_of_last_slots(p_schedule, p_schedule.next_at, v_first, p_schedule.missed_limit);
        elsif p_schedule.missed = 'one' and v_first > p_now then
            v_first := breakwater.first_of_last_slots(p_schedule, p_schedule.next_at, v_first, 1);
        end if;
    end if;
    missed := 0;
    next_at := p_schedule.next_at;
    while next_at < v_first and missed < 1000 loop
        missed := missed + 1;
        last_missed := next_at;
        next_at := breakwater.next_slot(p_schedule.parsed, p_schedule.every, p_schedule.time_zone, next_at);
    end loop;
    slots := '{}';
    next_at := v_first;
    while next_at <= p_now and cardinality(slots) < p_limit loop
        slots := slots || next_at;
        next_at := breakwater.next_slot(p_schedule.parsed, p_schedule.every, p_schedule.time_zone, next_at);
    end loop;
end
$$;

-- A slot as text, in UTC.
create function breakwater.slot_text(p_slot timestamptz) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select to_char(p_slot at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS')
           || case when extract(microseconds from p_slot)::integer % 1000000 = 0 then ''
                   else to_char(p_slot at time zone 'UTC', '.US') end || 'Z'
$$;

-- The payload of a slot's job.
create function breakwater.slot_payload(p_schedule breakwater.schedule, p_slot timestamptz, p_previous timestamptz)
returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select p_schedule.payload || jsonb_build_object('schedule', jsonb_build_object(
        'name', p_schedule.name, 'slot', breakwater.slot_text(p_slot), 'previous', breakwater.slot_text(p_previous)))
$$;

-- The unique key of a schedule's jobs; null for none.
create function breakwater.slot_key(p_schedule breakwater.schedule) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
    select coalesce(p_schedule.unique_key,
                    case when p_schedule.overlap = 'skip' then 'schedule:' || p_schedule.name end)
$$;

-- Records what became of some slots, and forgets all but about the last hundred of the schedule.
create function breakwater.record_slots(
    p_schedule text, p_slots timestamptz[], p_outcomes text[], p_jobs bigint[], p_counts integer[], p_by_hand boolean
) returns void
language sql set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
    insert into breakwater.schedule_slot (schedule, slot, by_hand, outcome, job, slots, at)
    select p_schedule, u.slot, p_by_hand, u.outcome, u.job, u.slots, breakwater.clock()
      from unnest(p_slots, p_outcomes, p_jobs, p_counts) u(slot, outcome, job, slots)
    on conflict do nothing;
    delete from breakwater.schedule_slot l
     where l.schedule = p_schedule
       and l.slot < (select o.slot from breakwater.schedule_slot o where o.schedule = p_schedule
                      order by o.slot desc offset 100 limit 1)
$$;

-- Deals with the due slots of a schedule, at most p_limit that get a job. Returns how many slots got one or were
-- skipped. The caller has locked the schedule's row.
--
-- One statement advances the schedule and enqueues the jobs. It does neither if the schedule is no longer where it was,
-- or if a leader of a later term has advanced it. A slot whose job is on record gets no second one, even if a user sets
-- next_at back.
create function breakwater.run_slots(p_schedule breakwater.schedule, p_limit integer) returns integer
language plpgsql set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
declare
    v_term  bigint := coalesce((select l.term from breakwater.leader l), 0);
    v_due   record;
    v_done  record;
    v_key   text := breakwater.slot_key(p_schedule);
    v_other bigint;
begin
    select * into v_due from breakwater.due_slots(p_schedule, breakwater.clock(), p_limit);
    with fence as (
        select from breakwater.schedule s
         where s.name = p_schedule.name and s.next_at = p_schedule.next_at and s.term <= v_term
    ), enqueued as (
        insert into breakwater.job (kind, queue, priority, payload, unique_key)
        select p_schedule.kind, p_schedule.queue, p_schedule.priority,
               breakwater.slot_payload(p_schedule, u.slot,
                                       coalesce(lag(u.slot) over (order by u.slot), p_schedule.last_slot)),
               v_key
          from fence, unnest(v_due.slots) u(slot)
         where not exists (select from breakwater.schedule_slot l
                            where l.schedule = p_schedule.name and l.slot = u.slot and not l.by_hand
                              and l.outcome = 'enqueued')
         order by u.slot
        on conflict (kind, unique_key) where unique_key is not null do nothing
        returning id, (payload #>> '{schedule,slot}')::timestamptz as slot
    ), jobs as (
        select coalesce(array_agg(e.id order by e.slot), '{}') as ids,
               coalesce(array_agg(e.slot order by e.slot), '{}') as slots
          from enqueued e
    )
    update breakwater.schedule s
       set next_at = v_due.next_at, term = v_term, error = null, error_at = null,
           last_slot = coalesce(j.slots[cardinality(j.slots)], s.last_slot),
           last_job = coalesce(j.ids[cardinality(j.ids)], s.last_job),
           last_at = case when j.ids = '{}' then s.last_at else breakwater.clock() end,
           enqueued = s.enqueued + cardinality(j.ids),
           skipped = s.skipped + cardinality(v_due.slots) - cardinality(j.ids),
           missed_slots = s.missed_slots + v_due.missed
      from jobs j
     where s.name = p_schedule.name and s.next_at = p_schedule.next_at and s.term <= v_term
    returning j.ids, j.slots into v_done;
    if not found then
        return 0;
    end if;
    if v_due.missed > 0 then
        perform breakwater.record_slots(p_schedule.name, array[v_due.last_missed], '{missed}', null,
                                        array[v_due.missed], false);
    end if;
    perform breakwater.record_slots(
        p_schedule.name, v_done.slots, array_fill('enqueued'::text, array[cardinality(v_done.ids)]), v_done.ids,
        array_fill(1, array[cardinality(v_done.ids)]), false) where v_done.ids <> '{}';
    if cardinality(v_due.slots) > cardinality(v_done.ids) then
        select j.id into v_other from breakwater.job j
         where j.kind = p_schedule.kind and j.unique_key = v_key collate "C";
        perform breakwater.record_slots(p_schedule.name, array_agg(u.slot), array_agg('skipped'::text),
                                        array_agg(v_other), array_agg(1), false)
           from unnest(v_due.slots) u(slot)
          where u.slot <> all (v_done.slots);
    end if;
    return cardinality(v_due.slots);
end
$$;

-- Deals with all due slots of a schedule that is about to be changed or paused, so that none is lost. Refused if there
-- are too many of them for one transaction. The caller has locked the schedule's row.
create function breakwater.run_due_slots(p_name text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_schedule breakwater.schedule;
    v_before   timestamptz;
begin
    for v_round in 0..100 loop
        v_before := v_schedule.next_at;
        select * into v_schedule from breakwater.schedule s where s.name = p_name collate "C";
        -- A schedule that does not move has been advanced by a leader of a later term.
        if v_schedule.paused_at is not null or v_schedule.next_at > breakwater.clock() or v_schedule.next_at is null
           or v_schedule.next_at = v_before
        then
            return;
        end if;
        exit when v_round = 100;
        perform breakwater.run_slots(v_schedule, 1000);
    end loop;
    raise exception 'the schedule % has more than 100000 due slots', quote_literal(p_name)
        using errcode = '55000',
              hint = 'Wait until a worker has dealt with them, or set missed => ''one'' or a shorter missed_after first.';
end
$$;

-- Deals with the due slots of all schedules, those that have been due the longest first, until p_limit slots are dealt
-- with. Returns how many there were. It is a chore of the leader, whose row it has locked (see breakwater.lead), so no
-- other worker leads before this transaction ends.
--
-- If a schedule fails, the reason is recorded, and it is tried again after ten seconds; the others go on. But if it has
-- waited for a lock for too long, the others are left for the next round: the lock may be one on the table of jobs, so
-- that each of them would wait as long, and the leader would do no other chore meanwhile.
--
-- Locks: the rows of the schedules, by SKIP LOCKED; the new jobs.
create function breakwater.run_schedules(p_limit integer) returns integer
language plpgsql set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
declare
    v_now      timestamptz := breakwater.clock();
    v_done     integer := 0;
    v_schedule breakwater.schedule;
    v_reason   text;
    v_state    text;
begin
    for v_schedule in
        select s.* from breakwater.schedule s
         where s.next_at <= v_now and s.paused_at is null
           and (s.error_at is null or s.error_at < v_now - interval '10 seconds')
         order by s.next_at
         limit p_limit
           for update skip locked
    loop
        begin
            v_done := v_done + breakwater.run_slots(v_schedule, p_limit - v_done);
        exception when others then
            get stacked diagnostics v_reason = message_text, v_state = returned_sqlstate;
            update breakwater.schedule s
               set error = left(format('%s (SQLSTATE %s)', v_reason, v_state), 2000), error_at = v_now
             where s.name = v_schedule.name;
            exit when v_state = '55P03';
        end;
        exit when v_done >= p_limit;
    end loop;
    return v_done;
end
$$;

-- The number of seconds until the next slot; null: no schedule has one. A slot that is due already and has not been
-- dealt with, because its row is locked or its schedule fails, is left for the next round.
create function breakwater.seconds_to_next_slot() returns double precision
language sql stable set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
    select extract(epoch from min(s.next_at) - breakwater.clock() - (clock_timestamp() - now()))
      from breakwater.schedule s
     where s.next_at > breakwater.clock() and s.paused_at is null
$$;

-- Enqueues a job of a schedule now, between its slots, even if it is paused. If the schedule allows no overlap, or has
-- a unique key, and a job with that key has not ended, none is added: `is_new` is false, and `job` is that job. Locks
-- the schedule's row.
create function breakwater.run_schedule(
    name text, reason text default null, actor text default session_user, out job bigint, out is_new boolean
)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_schedule breakwater.schedule := breakwater.lock_schedule(run_schedule.name);
    v_slot     timestamptz := breakwater.clock();
begin
    loop
        insert into breakwater.job (kind, queue, priority, payload, unique_key)
        values (v_schedule.kind, v_schedule.queue, v_schedule.priority,
                breakwater.slot_payload(v_schedule, v_slot, v_schedule.last_slot), breakwater.slot_key(v_schedule))
        on conflict (kind, unique_key) where unique_key is not null do nothing
        returning job.id into run_schedule.job;
        is_new := found;
        exit when is_new;
        select j.id into run_schedule.job from breakwater.job j
         where j.kind = v_schedule.kind and j.unique_key = breakwater.slot_key(v_schedule) collate "C";
        exit when found;
        -- That job ended between the two statements, so the loop tries again.
    end loop;
    if is_new then
        perform breakwater.record_slots(
            v_schedule.name, array[v_slot], '{enqueued}', array[run_schedule.job], '{1}', true);
    end if;
    perform breakwater.record_action(actor, 'schedule.run', v_schedule.name, run_schedule.reason,
                                     jsonb_build_object('job', run_schedule.job, 'is_new', is_new));
end
$$;
