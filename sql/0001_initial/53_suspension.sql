-- Suspension, so that one broken worker does not open the fleet's circuit.
--
-- The breaker suspends a worker whose calls fail while those of other workers succeed. A worker suspends itself when it
-- lacks something that it needs to run jobs of a kind: descriptors, processes, memory, the program. Circuits are not
-- affected by this.

-- How the other workers' calls of a circuit have ended since this worker's calls began to fail: 'well' if some
-- succeeded, 'ill' if none did or there are no others, 'unknown' while it is too early to tell.
--
-- Calls are settled some time after they end, so only a success at least a quarter of a second later counts. Other
-- workers that succeeded a moment ago get a second to have a result.
create function breakwater.others_result(p_circuit breakwater.circuit, p_worker bigint) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    v_since timestamptz;
    v_last_success timestamptz;
    v_others_failed boolean;
    v_others_active boolean;
begin
    select max(t.last_success_at) into v_last_success
      from breakwater.tally t
     where t.kind = p_circuit.kind and t.key = p_circuit.key and t.generation = p_circuit.generation
       and t.worker = p_worker and t.slot > breakwater.clock() - interval '10 minutes';
    select min(t.failing_since) into v_since
      from breakwater.tally t
     where t.kind = p_circuit.kind and t.key = p_circuit.key and t.generation = p_circuit.generation
       and t.worker = p_worker and t.slot > breakwater.clock() - interval '10 minutes'
       and t.failing_since > coalesce(v_last_success, '-infinity');
    v_since := coalesce(v_since, breakwater.clock() - interval '1 second');

    if exists (select from breakwater.tally t
                where t.kind = p_circuit.kind and t.key = p_circuit.key and t.generation = p_circuit.generation
                  and t.worker <> p_worker and t.slot >= date_trunc('second', v_since)
                  and t.last_success_at > v_since + interval '250 milliseconds')
    then
        return 'well';
    end if;
    select coalesce(bool_or(t.failed > t.repeats), false),
           coalesce(bool_or(t.last_success_at > breakwater.clock() - interval '2 seconds'), false)
      into v_others_failed, v_others_active
      from breakwater.tally t
     where t.kind = p_circuit.kind and t.key = p_circuit.key and t.generation = p_circuit.generation
       and t.worker <> p_worker and t.slot > breakwater.clock() - interval '3 seconds'
       and not exists (select from breakwater.suspension s
                        where s.kind = t.kind and s.key = t.key and s.worker = t.worker and s.times > 0
                          and not s.is_local);
    return case when v_others_active and not v_others_failed
                     and v_since > breakwater.clock() - interval '1 second' then 'unknown' else 'ill' end;
end
$$;

-- Suspends a worker for a circuit, for longer each time without a success in between.
create function breakwater.suspend(
    p_circuit breakwater.circuit, p_policy breakwater.handler, p_worker bigint, p_reason text
) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_until timestamptz;
begin
    insert into breakwater.suspension as s (kind, key, worker, since, until, reason)
    values (p_circuit.kind, p_circuit.key, p_worker, breakwater.clock(),
            breakwater.clock() + breakwater.open_time(p_policy, 0), p_reason)
    on conflict (kind, key, worker, is_local) do update
       set times = s.times + 1, reason = excluded.reason,
           until = breakwater.clock() + breakwater.open_time(p_policy, s.times)
     where s.until <= breakwater.clock() or s.times = 0
    returning s.until into v_until;
    if v_until is not null then
        raise notice 'worker % is suspended for the circuit of % until %: %', p_worker,
            breakwater.circuit_name(p_circuit.kind, p_circuit.key), v_until, p_reason
            using errcode = 'BW002', detail = jsonb_build_object(
                'circuit', breakwater.circuit_name(p_circuit.kind, p_circuit.key), 'worker', p_worker,
                'until', v_until, 'reason', p_reason);
        -- The worker holds jobs that have not started.
        perform pg_notify('breakwater', 'circuit:' || p_circuit.kind);
    end if;
end
$$;

-- Keeps a failing worker from claiming more for a second, until the results of other workers are known. This does not
-- count as a suspension (times is 0).
create function breakwater.suspend_briefly(p_circuit breakwater.circuit, p_worker bigint, p_reason text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    insert into breakwater.suspension (kind, key, worker, since, until, times, reason)
    values (p_circuit.kind, p_circuit.key, p_worker, breakwater.clock(), breakwater.clock() + interval '1 second', 0,
            p_reason || '; how others fare is not known yet')
    on conflict do nothing;
    if found then
        -- The worker holds jobs that have not started.
        perform pg_notify('breakwater', 'circuit:' || p_circuit.kind);
    end if;
end
$$;

-- Suspends a worker for a kind because it could not run a job of it: for 5 seconds, and twice as long each time that
-- this happens again afterwards, up to a minute. Then it gets one job at a time (see breakwater.admit_self). Runs that
-- fail while it is already suspended do not count.
create function breakwater.suspend_self(p_worker bigint, p_kind text, p_reason text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_reason text := left(coalesce(p_reason, 'it could not run a job'), 1000);
    v_until  timestamptz;
begin
    insert into breakwater.suspension as s (kind, key, worker, since, until, reason, is_local)
    values (p_kind, '', p_worker, breakwater.clock(), breakwater.clock() + interval '5 seconds', v_reason, true)
    on conflict (kind, key, worker, is_local) do update
       set times = s.times + 1, reason = excluded.reason,
           until = breakwater.clock() + least(interval '1 minute', interval '5 seconds' * 2 ^ least(s.times, 4))
     where s.until <= breakwater.clock()
    returning s.until into v_until;
    if v_until is not null then
        raise notice 'worker % suspends itself for % until %: %', p_worker, p_kind, v_until, v_reason
            using errcode = 'BW002', detail = jsonb_build_object(
                'kind', p_kind, 'worker', p_worker, 'until', v_until, 'reason', v_reason);
        -- The worker holds jobs that have not started.
        perform pg_notify('breakwater', 'circuit:' || p_kind);
    end if;
end
$$;

-- Whether a worker holds jobs of a kind; or, for the kind '*', jobs of the kinds that share a circuit. The room that a
-- worker has for a kind does not show this, because the worker keeps some room for its other kinds.
create function breakwater.holds_jobs(p_worker bigint, p_kind text, p_key text) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from breakwater.held d
          join breakwater.job j on j.id = d.job
          left join breakwater.handler h on h.kind = j.kind
         where d.worker = p_worker
           and breakwater.is_handler_of(j.kind, h.shared_key, p_kind, p_key));
end
$$;

-- How many jobs of a kind a worker that suspended itself may take: none until its suspension has ended, then one at a
-- time. null if it did not suspend itself.
create function breakwater.admit_self(p_kind text, p_worker bigint) returns integer
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return (select case when s.until > breakwater.clock() or breakwater.holds_jobs(p_worker, p_kind, '') then 0 else 1 end
              from breakwater.suspension s
             where s.kind = p_kind collate "C" and s.key = '' and s.worker = p_worker and s.is_local);
end
$$;

-- Ends a worker's expired suspensions of itself, for the kinds that it has just run a job of.
create function breakwater.resume_self(p_worker bigint, p_kinds text[]) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
    delete from breakwater.suspension s
     where s.worker = p_worker and s.is_local and s.kind = any (p_kinds) and s.until <= breakwater.clock()
$$;

-- The kinds for which a worker may start no job that it claimed under an earlier generation than the one returned with
-- them: the kinds whose circuit is not closed, and (with the highest number) those that are paused or that this worker
-- is suspended for. For a worker that an operator drained, these are all of its kinds.
create function breakwater.stopped_kinds(p_worker bigint, out kinds text[], out generations bigint[])
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    select coalesce(array_agg(s.kind), '{}'), coalesce(array_agg(s.generation), '{}')
      into kinds, generations
      from (select h.kind, c.generation
              from breakwater.circuit c
              join breakwater.handler h on breakwater.is_circuit_of(c.kind, c.key, h.kind, h.shared_key, '')
             where c.state <> 'closed'
            union all
            select s.kind, 9223372036854775807 from breakwater.suspension s
             where s.worker = p_worker and s.until > breakwater.clock() and s.key = ''
            union all
            select p.name, 9223372036854775807 from breakwater.pause p where p.scope = 'kind'
            union all
            select unnest(w.kinds), 9223372036854775807 from breakwater.worker w
             where w.id = p_worker and w.drain_reason is not null) s;
end
$$;
