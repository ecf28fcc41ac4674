-- Jobs that no claim can return, because their payload cannot be read: numbers that take gigabytes as text, more
-- control characters than fit into a value, or a broken page. A claim that includes such a job fails as a whole. Its
-- worker then asks for fewer jobs, and requests that the jobs which the claim could have taken are checked one by one.

-- Checks the first p_limit jobs of each lane, and the first p_limit parked jobs, jobs that a rule holds back, and
-- suspects of the lanes' kinds.
-- Dead-letters those that cannot be read, as `unreadable`, and returns them. Their payloads are lost.
--
-- Locks: the jobs that it ends, by SKIP LOCKED.
create function breakwater.dead_letter_unreadable(
    p_worker bigint, p_queues text[], p_kinds text[], p_priorities smallint[], p_limit integer
) returns bigint[]
language plpgsql security definer
set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off set enable_bitmapscan = off
as $$
declare
    v_id    bigint;
    v_error text;
    v_jobs  bigint[] := '{}';
begin
    if not exists (select from breakwater.worker w where w.id = p_worker) then
        return v_jobs;
    end if;
    for v_id in
        select i.id
          from unnest(p_queues, p_kinds, p_priorities) l(queue, kind, priority)
          join breakwater.lane a on a.queue = l.queue collate "C" and a.kind = l.kind collate "C"
                                and a.priority = l.priority
         -- All jobs that no claim holds, below the cursor as well as above.
         cross join lateral unnest((breakwater.find_late(
               a.id, a.queue, a.kind, a.priority, breakwater.floor_of(a), 9223372036854775807, p_limit)).ids) i(id)
        union all
        select j.id
          from (select distinct unnest(p_kinds) collate "C" as kind) k
         cross join lateral (
               select j.id from breakwater.job j where j.kind = k.kind and j.parked is not null
                order by j.position limit p_limit) j
        union all
        select j.id
          from breakwater.handler h
         cross join lateral (
               select j.id from breakwater.job j where j.kind = h.kind and j.rule = any (h.rules) limit p_limit) j
         where h.kind = any (p_kinds) and h.rules is not null
        union all
        (select j.id from breakwater.job j
          where j.crashes >= 2 and j.kind = any (p_kinds) order by j.position limit p_limit)
    loop
        v_error := breakwater.why_unreadable(v_id);
        continue when v_error is null;
        perform from breakwater.job j where j.id = v_id for update skip locked;
        continue when not found or breakwater.without_held(array[v_id]) = '{}';
        update breakwater.job j
           set payload = 'null',
               errors = jsonb_build_array(jsonb_build_object(
                   'attempt', j.attempt + 1, 'class', 'discarded', 'name', 'unreadable', 'at', breakwater.clock(),
                   'message', format('the job cannot be read, and its payload is lost: %s', v_error),
                   'worker', p_worker))
         where j.id = v_id;
        perform breakwater.dead_letter_job(v_id, 'unreadable', null);
        v_jobs := v_jobs || v_id;
    end loop;
    return v_jobs;
end
$$;

-- The reason why a job cannot be read; null if it can.
create function breakwater.why_unreadable(p_job bigint) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform breakwater.check_payloads(array[j.payload::text]), octet_length(j.errors::text),
            octet_length(j.traceparent || j.tracestate)
       from breakwater.job j where j.id = p_job;
    return null;
exception
    -- Any error is caught, because it concerns only this row.
    when others then
        return sqlerrm;
end
$$;
