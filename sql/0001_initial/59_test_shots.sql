-- Test shots. A test shot is a job that an operator runs in spite of an open circuit or a pause, to see how it ends.

-- Makes a job a test shot: the next worker that handles its kind and has a free slot runs it, even if its circuit, a
-- pause or its scheduled time would prevent this. Its outcome counts as that of a probe. Returns false if no such job
-- waits.
--
-- Refused for a suspect, which runs apart from others, and for a job that no running worker handles.
-- Locks: the job.
create function breakwater.run_through(id bigint, reason text default null, actor text default session_user) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_job breakwater.job;
begin
    if not breakwater.lock_to_change(run_through.id) then
        return false;
    end if;
    select * into v_job from breakwater.job j where j.id = run_through.id;
    if v_job.crashes >= 2 then
        raise exception 'job % was there when its workers were lost, and runs alone', id
            using errcode = '22023', hint = 'worker job says what is known about it.';
    elsif not exists (select from breakwater.active_worker w
                       where v_job.kind = any (w.kinds) and v_job.queue = any (w.queues)) then
        raise exception 'no worker that runs handles the kind % in the queue %', quote_literal(v_job.kind),
            quote_literal(v_job.queue)
            using errcode = '22023', hint = 'worker status lists the workers.';
    end if;
    update breakwater.job j
       set run_at = 'infinity', parked = null, rule = null, rule_key = null, moved_from = null, position = nextval('breakwater.job_position')
     where j.id = v_job.id;
    insert into breakwater.test_shot (job, actor) values (v_job.id, actor)
    on conflict (job) do update set actor = excluded.actor, at = excluded.at;
    perform breakwater.wake(array[v_job.kind]);
    perform breakwater.record_action(actor, 'job.run_through', 'job ' || id, run_through.reason,
                                     jsonb_build_object('id', id, 'kind', v_job.kind));
    return true;
end
$$;

-- Claims the test shots of a worker's kinds and queues for which it has free slots.
-- Locks: the shots and their jobs, by SKIP LOCKED.
create function breakwater.claim_test_shots(
    p_worker bigint, p_queues text[], p_kinds text[], p_slots integer[], p_room integer[], p_total integer
) returns setof breakwater.claimed_jobs
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_id    bigint;
    v_shot  record;
    v_circuit breakwater.circuit;
    v_lease bigint;
    v_left  integer := p_total;
    v_room  integer[] := p_room;
begin
    for v_id in
        select s.job from breakwater.test_shot s order by s.at limit 100 for update skip locked
    loop
        exit when v_left <= 0;
        select j.id, j.kind, h.shared_key,
               (select l.slot from unnest(p_queues, p_kinds, p_slots) l(queue, kind, slot)
                 where l.queue = j.queue and l.kind = j.kind limit 1) as slot,
               case when h.key_path is not null and h.shared_key is null
                    then breakwater.key_of(j.payload, h.key_path) else '' end as key
          into v_shot
          from breakwater.job j
          left join breakwater.handler h on h.kind = j.kind
         where j.id = v_id
           for update of j skip locked;
        continue when v_shot.slot is null or v_room[v_shot.slot] <= 0 or breakwater.without_held(array[v_id]) = '{}';
        v_lease := nextval('breakwater.lease');
        continue when breakwater.start_by_rules(v_shot.kind, array[v_id], v_lease, p_worker) = '{}';
        delete from breakwater.test_shot s where s.job = v_id;
        v_circuit := breakwater.circuit_of_shot(v_shot.kind, v_shot.shared_key, v_shot.key);
        insert into breakwater.claim (lease, worker, last, floor, jobs) values (v_lease, p_worker, 0, 0, array[v_shot.id]);
        perform breakwater.lease_probes(
            coalesce(v_circuit.kind, v_shot.kind), coalesce(v_circuit.key, ''), coalesce(v_circuit.generation, 0),
            v_shot.kind, array[v_shot.id], v_lease);
        return query
            select t.* from breakwater.jobs_of_claim(
                array[v_shot.id], v_lease, null, coalesce(v_circuit.key, ''), coalesce(v_circuit.generation, 0), true) t;
        v_left := v_left - 1;
        v_room[v_shot.slot] := v_room[v_shot.slot] - 1;
    end loop;
end
$$;

-- The circuit that a test shot is a probe of: the shared one, that of its key if it has one, or its kind's own.
create function breakwater.circuit_of_shot(p_kind text, p_shared_key text, p_key text) returns breakwater.circuit
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select c from breakwater.circuit c
     where breakwater.is_circuit_of(c.kind, c.key, p_kind, p_shared_key, p_key)
        or breakwater.is_circuit_of(c.kind, c.key, p_kind, p_shared_key, '')
     order by c.key = '' , c.key
     limit 1
$$;

-- Begins a circuit's round of probes because a test shot succeeded while the circuit was open by its own rules.
create function breakwater.begin_round(p_calls breakwater.circuit_calls, p_worker bigint) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_circuit breakwater.circuit;
begin
    select * into v_circuit from breakwater.circuit c
     where c.kind = p_calls.circuit_kind and c.key = p_calls.circuit_key and c.generation = p_calls.generation
       and c.state = 'open' and c.override is null
       for update;
    if not found then
        return;
    end if;
    perform breakwater.transition(v_circuit.kind, v_circuit.key, 'half_open', 'a test shot succeeded', null, p_worker, null);
    select * into v_circuit from breakwater.circuit c where c.kind = v_circuit.kind and c.key = v_circuit.key;
    perform breakwater.count_probes(v_circuit, p_calls, p_worker);
end
$$;

-- Puts test shots back that no worker has claimed for a minute. Returns how many.
create function breakwater.return_test_shots() returns integer
language plpgsql set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
declare
    v_ids bigint[];
begin
    with gone as (
        delete from breakwater.test_shot s where s.at < clock_timestamp() - interval '1 minute' returning s.job
    )
    select coalesce(array_agg(g.job), '{}') into v_ids from gone g;
    if v_ids = '{}' then
        return 0;
    end if;
    v_ids := breakwater.lock_waiting(v_ids);
    update breakwater.job j set run_at = null, ready_at = now(), position = nextval('breakwater.job_position')
     where j.id = any (v_ids) and j.run_at = 'infinity'
       -- It goes on waiting for other jobs.
       and not exists (select from breakwater.dependant d where d.job = j.id and d.released_at is null);
    perform breakwater.wake(array(select distinct j.kind from breakwater.job j where j.id = any (v_ids)));
    return cardinality(v_ids);
end
$$;
