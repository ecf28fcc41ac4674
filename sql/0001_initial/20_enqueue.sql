-- Enqueueing. Plain INSERTs work too. These functions add a return value and clear error messages, and for a unique key
-- that is taken they return the existing job.

-- Enqueues one job and returns its id.
--
-- If a live job already has that kind and unique_key, the function returns that job's id and adds nothing. A run_at in
-- the past means now.
--
-- With `after`, the job waits until these jobs have succeeded. If one of them dies, `on_dead` decides: `hold` lets the
-- job wait until that one is redriven and succeeds, `cancel` makes it a dead letter too, `run` lets it wait for the
-- others only. With `batch`, the job becomes part of a batch (see breakwater.batch), whose callback waits for it.
--
-- Locks: the new row, and the row of the batch's callback among those that wait, so that it is not released.
create function breakwater.enqueue(
    kind         text,
    payload      jsonb default '{}',
    queue        text default 'default',
    priority     integer default 5,
    run_at       timestamptz default null,
    max_attempts integer default null,
    unique_key   text default null,
    traceparent  text default null,
    tracestate   text default null,
    after        bigint[] default null,
    on_dead      text default 'hold',
    batch        bigint default null
) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_waits boolean := enqueue.after is not null or enqueue.batch is not null;
    v_id    bigint;
begin
    perform breakwater.check_enqueue(enqueue.kind, enqueue.queue, enqueue.priority, enqueue.max_attempts);
    if v_waits then
        perform breakwater.check_dependencies(enqueue.after, enqueue.on_dead, enqueue.batch);
    end if;
    if enqueue.payload is null then
        raise exception 'the payload is NULL' using errcode = '22004', hint = 'Leave it out, or pass ''{}''.';
    end if;
    loop
        insert into breakwater.job (
            kind, payload, queue, priority, run_at, max_attempts, unique_key, traceparent, tracestate)
        values (enqueue.kind, enqueue.payload, enqueue.queue, enqueue.priority,
                case when cardinality(enqueue.after) > 0 then 'infinity'
                     when enqueue.run_at > now() then enqueue.run_at end,
                enqueue.max_attempts, enqueue.unique_key, enqueue.traceparent, enqueue.tracestate)
        on conflict (kind, unique_key) where unique_key is not null do nothing
        returning job.id into v_id;
        exit when found;
        select j.id into v_id from breakwater.job j
         where j.kind = enqueue.kind and j.unique_key = enqueue.unique_key;
        if found then
            return v_id;
        end if;
        -- That job ended between the two statements, so the loop tries again.
    end loop;
    if v_waits then
        perform breakwater.add_dependencies(
            array[v_id], enqueue.after, enqueue.on_dead, enqueue.batch, enqueue.run_at);
    end if;
    return v_id;
end
$$;

-- Enqueues many jobs of one kind, one for each payload, in order, and returns their ids in that order. `after`,
-- `on_dead` and `batch` are those of enqueue, for each of the jobs.
create function breakwater.enqueue_many(
    kind         text,
    payloads     jsonb[],
    queue        text default 'default',
    priority     integer default 5,
    run_at       timestamptz default null,
    max_attempts integer default null,
    traceparent  text default null,
    tracestate   text default null,
    after        bigint[] default null,
    on_dead      text default 'hold',
    batch        bigint default null
) returns setof bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_ids bigint[];
begin
    perform breakwater.check_enqueue(
        enqueue_many.kind, enqueue_many.queue, enqueue_many.priority, enqueue_many.max_attempts);
    if array_position(payloads, null) is not null then
        raise exception 'payload % is NULL', array_position(payloads, null) using errcode = '22004';
    end if;
    if enqueue_many.after is not null or enqueue_many.batch is not null then
        perform breakwater.check_dependencies(enqueue_many.after, enqueue_many.on_dead, enqueue_many.batch);
    end if;
    with added as (
        insert into breakwater.job (kind, payload, queue, priority, run_at, max_attempts, traceparent, tracestate)
        select enqueue_many.kind, p.payload, enqueue_many.queue, enqueue_many.priority,
               case when cardinality(enqueue_many.after) > 0 then 'infinity'
                    when enqueue_many.run_at > now() then enqueue_many.run_at end,
               enqueue_many.max_attempts, enqueue_many.traceparent, enqueue_many.tracestate
          from unnest(payloads) with ordinality p(payload, place)
         order by p.place
        returning job.id
    )
    select array_agg(a.id) into v_ids from added a;
    if enqueue_many.after is not null or enqueue_many.batch is not null then
        perform breakwater.add_dependencies(
            v_ids, enqueue_many.after, enqueue_many.on_dead, enqueue_many.batch, enqueue_many.run_at);
    end if;
    return query select unnest(v_ids);
end
$$;

-- Refuses values that the table's constraints would refuse, with messages that say what to do.
create function breakwater.check_enqueue(p_kind text, p_queue text, p_priority integer, p_max_attempts integer)
returns void
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
    if p_kind is null or octet_length(p_kind) not between 1 and 200 then
        raise exception 'the kind has % bytes', coalesce(octet_length(p_kind)::text, 'no')
            using errcode = '22023', hint = 'A kind names a handler, such as ''email.send'': 1 to 200 bytes.';
    elsif breakwater.has_control_characters(p_kind) then
        raise exception 'the kind % has a control character', to_json(p_kind)
            using errcode = '22023', hint = 'No configuration can name such a kind: see the bytes of what was given.';
    elsif p_queue is null or octet_length(p_queue) not between 1 and 200 then
        raise exception 'the queue''s name has % bytes', coalesce(octet_length(p_queue)::text, 'no')
            using errcode = '22023', hint = 'A queue''s name has 1 to 200 bytes; leave it out for ''default''.';
    elsif breakwater.has_control_characters(p_queue) then
        raise exception 'the queue''s name % has a control character', to_json(p_queue)
            using errcode = '22023', hint = 'No configuration can name such a queue: see the bytes of what was given.';
    elsif p_priority is null or p_priority not between 0 and 9 then
        raise exception 'priority % is not 0 to 9', coalesce(p_priority::text, 'NULL')
            using errcode = '22023', hint = '0 runs first, 9 last; leave it out for 5.';
    elsif p_max_attempts < 1 then
        raise exception 'max_attempts % is not at least 1', p_max_attempts
            using errcode = '22023', hint = 'Leave it out to follow the handler''s own limit.';
    end if;
end
$$;

-- Notifies the sleeping workers that could run one of these kinds. A NOTIFY takes a database-wide lock at commit, so
-- none is sent while no such worker sleeps.
create function breakwater.wake(p_kinds text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_notify('breakwater', 'job:' || k.kind)
      from (select distinct unnest(p_kinds) collate "C" as kind) k
     where exists (select from breakwater.sleeper s where k.kind = any (s.kinds));
end
$$;

-- Notifies the sleeping workers of the kinds inserted, except where another worker polls such a hot kind in that queue.
--
-- It runs once for each INSERT while any worker may be asleep, so it is kept cheap: it is one statement whose plan is
-- kept; it is stable, so that it uses the INSERT's snapshot; and it sets no search path, which would cost as much as
-- the rest. So every name in it, including operators, is qualified with its schema. Otherwise the caller's search path
-- would decide what it means.
create function breakwater.wake_for_inserted() returns trigger
language plpgsql stable security definer
as $$
begin
    if exists (select from breakwater.sleeper) then
        perform pg_catalog.pg_notify('breakwater', 'job:' operator(pg_catalog.||) w.kind)
           from (select distinct n.kind
                   from (select distinct i.queue, i.kind from inserted i where i.run_at is null) n
                  where exists (select from breakwater.sleeper s
                                 where n.kind operator(pg_catalog.=) any (s.kinds))
                    and not exists (select from breakwater.sleeper s
                                     where n.kind operator(pg_catalog.=) any (s.polled)
                                       and n.queue operator(pg_catalog.=) any (s.queues)
                                       and s.until operator(pg_catalog.>) pg_catalog.clock_timestamp())) w;
    end if;
    return null;
end
$$;

-- A transaction that will be prepared for two-phase commit cannot notify. If it sets breakwater.wake to off, its jobs
-- wait for the next poll instead.
create trigger wake_for_inserted after insert on breakwater.job
    referencing new table as inserted
    for each statement when (pg_sequence_last_value('breakwater.anyone_asleep'::regclass) is not null
                             and coalesce(current_setting('breakwater.wake', true), '') <> 'off')
    execute function breakwater.wake_for_inserted();
