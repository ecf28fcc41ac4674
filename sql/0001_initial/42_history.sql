-- A job's history of failures, and the dead letter that it becomes part of.

-- When a job last failed or found its dependency unavailable as a job of its current kind, according to its history;
-- null: never.
create function breakwater.last_failure_in(p_errors jsonb) returns timestamptz
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return (with error as (
                select e.value, e.place
                  from jsonb_array_elements(case when jsonb_typeof(p_errors) = 'array' then p_errors else '[]' end)
                       with ordinality e(value, place))
            select max((e.value ->> 'at')::timestamptz) from error e
             where e.value ->> 'class' in ('failed', 'unavailable')
               and e.place > coalesce((select max(o.place) from error o where o.value ->> 'class' = 'rerouted'), 0));
exception when data_exception then
    -- The history is invalid, because a user wrote it by hand.
    return null;
end
$$;

-- Adds one run's error to a job's history, which keeps the newest 25, each message cut to 8192 characters. If a user
-- replaced the history by something other than a list, it starts over, because it must not keep the job from being
-- settled.
create function breakwater.add_error(
    p_errors jsonb, p_attempt integer, p_class text, p_name text, p_message text, p_worker bigint
) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return (select case when jsonb_array_length(e.old) >= 25 then e.old - 0 else e.old end
                   || (jsonb_build_object('attempt', p_attempt, 'class', p_class, 'name', left(p_name, 200),
                                          'message', left(p_message, 8192), 'at', breakwater.clock(), 'worker', p_worker)
                       -- The number means nothing to people once the worker has left.
                       || coalesce((select jsonb_build_object('worker_name', w.name)
                                      from breakwater.worker w where w.id = p_worker), '{}'))
              from (select case when jsonb_typeof(p_errors) = 'array' then p_errors else '[]' end as old) e);
end
$$;

-- Moves a job to the dead letters, in one statement. With a worker and a lease, the run under that claim was its last
-- one, and is counted. If another dead letter already has its id, the job gets a new one, so that both are kept.
create function breakwater.dead_letter_job(
    p_id bigint, p_reason text, p_errors jsonb, p_worker bigint default null, p_lease bigint default null
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_number bigint := p_id;
    v_halts  boolean := false;
    v_job    breakwater.job;
    v_run    integer := (p_lease is not null)::integer;
begin
    -- Others may wait for it (see 34_held_back.sql).
    select j.* into v_job from breakwater.job j
      join breakwater.handler h on h.kind = j.kind and h.rules is not null
     where j.id = p_id;
    if found and v_job.id is not null then
        select coalesce(bool_or(r.on_dead = 'halt'), false) and p_reason <> 'cancelled' into v_halts
          from breakwater.flow_rule r where r.type = 'order' and r.name = v_job.kind;
        perform breakwater.free_keys_of_job(v_job);
    end if;
    if exists (select from breakwater.dead_letter d where d.id = p_id)
       and exists (select from breakwater.job j where j.id = p_id)
    then
        v_number := breakwater.new_job_number();
        raise warning 'job % becomes dead letter %: another dead letter has its number', p_id, v_number;
        update breakwater.progress p set job = v_number where p.job = p_id;
    end if;
    if exists (select from breakwater.job j join breakwater.handler h on h.kind = j.kind and h.writes_history
                where j.id = p_id) then
        perform breakwater.prepare_history();
    end if;
    with gone as (
        delete from breakwater.job j where j.id = p_id
        returning j.*
    ), written as (
        insert into breakwater.finished_job
        select f.*
          from gone g
          left join breakwater.claim c on c.lease = p_lease
         cross join lateral breakwater.finished_row(
                    g::breakwater.job, 'dead_letter', g.attempt + v_run, p_reason, p_claimed_at => c.claimed_at,
                    p_worker => p_worker, p_errors => p_errors, p_id => v_number) f
    ), reported as (
        insert into breakwater.outcome (
            outcome, queue, kind, job, attempt, max_attempts, worker, took, reason, name, message)
        select 'dead_letter', g.queue, g.kind, v_number, g.attempt + v_run, coalesce(g.max_attempts, h.max_attempts), p_worker,
               case when p_lease is not null then clock_timestamp() - c.claimed_at end, p_reason,
               e.last ->> 'name', left(e.last ->> 'message', 500)
          from gone g
         cross join lateral (select coalesce(p_errors, g.errors) -> -1 as last) e
          left join breakwater.handler h on h.kind = g.kind
          left join breakwater.claim c on c.lease = p_lease
         where breakwater.has_subscribers()
    )
    insert into breakwater.dead_letter (
        id, queue, kind, priority, payload, reason, attempt, max_attempts, unique_key, traceparent, tracestate, errors,
        enqueued_at)
    select v_number, g.queue, g.kind, g.priority, g.payload, p_reason, g.attempt + v_run, g.max_attempts, g.unique_key,
           g.traceparent, g.tracestate, coalesce(p_errors, g.errors, '[]'), g.enqueued_at
      from gone g;
    if v_halts then
        insert into breakwater.halted_key (kind, key, dead_letter)
        values (v_job.kind, breakwater.order_key_of(v_job.kind, v_job.payload), v_number)
        on conflict do nothing;
    end if;
    perform breakwater.end_waiting(p_id);
    if breakwater.has_dependencies() then
        if v_number <> p_id then
            update breakwater.dependency d set job = v_number where d.job = p_id and d.state = 'waiting';
        end if;
        perform breakwater.end_dependencies(array[v_number], 'dead');
    end if;
end
$$;

-- How often a job may run if its kind has no row in breakwater.handler, for example because a user deleted it. This is
-- the default of handlers.
create function breakwater.default_max_attempts() returns integer
language sql immutable
as $$ select 20 $$;
