-- The search for jobs, for the dashboard and for `worker jobs`. Each search ends after a time that the caller chooses,
-- and says how far it has come.

-- Whether a payload matches a path: the path is a condition that is true, `$.total > 100`, or it finds something other
-- than a truth value or null, `$.items[*] ? (@.price > 100)`. A payload that the path cannot be applied to does not
-- match.
create function breakwater.matches_path(p_payload jsonb, p_path jsonpath) returns boolean
language sql immutable
as $$
    select coalesce(p_payload @@ p_path, false)
        or coalesce(jsonb_typeof(jsonb_path_query_first(p_payload, p_path, '{}', true)) not in ('boolean', 'null'), false)
$$;

-- Whether a job has a key: its unique key, or what its payload has at the path by which its kind's history is found, or
-- else at that of its circuit's key.
create function breakwater.has_key(p_job breakwater.job, p_key text) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select (p_job).unique_key = p_key collate "C"
        or exists (select from breakwater.handler h
                    where h.kind = (p_job).kind
                      and breakwater.key_of((p_job).payload, coalesce(h.history_key, h.key_path)) = p_key)
$$;

-- Finds jobs below the id p_before, the newest first, that meet all conditions that are not null. p_state is as in
-- job_status, or `waiting` for all that do not run; p_path is a JSON path that the payload must match
-- (`$.customer.id ? (@ == 17)`). p_key is the job's unique key, or its key as in breakwater.finished_job. The job was
-- enqueued from p_since on and before p_until.
--
-- It stops when p_limit jobs are found or p_patience has elapsed. `searched_to` is the lowest id that it examined,
-- null for the end.
create function breakwater.find_jobs(
    p_before bigint, p_kind text, p_queue text, p_state text, p_path jsonpath, p_limit integer, p_patience interval,
    p_key text default null, p_since timestamptz default null, p_until timestamptz default null,
    out ids bigint[], out searched_to bigint
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off
as $$
declare
    v_deadline timestamptz := clock_timestamp() + p_patience;
    v_portion  integer := 500;
    v_seen     bigint;
    v_next     bigint[];
begin
    ids := '{}';
    searched_to := coalesce(p_before, 9223372036854775807);
    if p_state = 'running' then
        -- There are few of these, and they are found through the claims.
        ids := array(
            select j.id
              from breakwater.held h
              join breakwater.job j on j.id = h.job
             where j.id < searched_to
               and (p_kind is null or j.kind = p_kind collate "C") and (p_queue is null or j.queue = p_queue collate "C")
               and (p_path is null or breakwater.matches_path(j.payload, p_path))
               and (p_key is null or breakwater.has_key(j, p_key))
               and (p_since is null or j.enqueued_at >= p_since) and (p_until is null or j.enqueued_at < p_until)
             order by j.id desc limit p_limit);
        searched_to := case when cardinality(ids) = p_limit then ids[p_limit] end;
        return;
    end if;
    loop
        with looked as (
            select j.*, j.id in (select h.job from breakwater.held h) as is_held,
                   case when p_key is not null then breakwater.has_key(j, p_key) end as has_key,
                   coalesce(j.run_at = 'infinity', false)
                   and exists (select from breakwater.dependant d where d.job = j.id and d.released_at is null)
                   as is_dependent
              from breakwater.job j where j.id < searched_to order by j.id desc limit v_portion
        )
        select min(l.id), array(
            select m.id from looked m
             where (p_kind is null or m.kind = p_kind collate "C") and (p_queue is null or m.queue = p_queue collate "C")
               and case p_state when 'ready' then m.run_at is null and not m.is_held
                                when 'scheduled' then m.run_at is not null and num_nonnulls(m.parked, m.rule) = 0
                                                      and not m.is_held and not m.is_dependent
                                                      and not breakwater.has_run(m.attempt, m.errors)
                                when 'retrying' then m.run_at is not null and num_nonnulls(m.parked, m.rule) = 0
                                                     and not m.is_held and not m.is_dependent
                                                     and breakwater.has_run(m.attempt, m.errors)
                                when 'waiting' then not m.is_held
                                when 'dependent' then m.is_dependent and not m.is_held
                                when 'parked' then num_nonnulls(m.parked, m.rule) > 0 and not m.is_held
                                else true end
               and (p_path is null or breakwater.matches_path(m.payload, p_path))
               and (p_key is null or m.has_key)
               and (p_since is null or m.enqueued_at >= p_since) and (p_until is null or m.enqueued_at < p_until)
             order by m.id desc
             limit p_limit - cardinality(ids))
          into v_seen, v_next
          from looked l;
        ids := ids || coalesce(v_next, '{}');
        if v_seen is null then
            searched_to := null;
            return;
        elsif cardinality(ids) >= p_limit then
            searched_to := ids[p_limit];
            return;
        end if;
        searched_to := v_seen;
        exit when clock_timestamp() > v_deadline;
        v_portion := least(v_portion * 2, 8000);
    end loop;
end
$$;

-- Finds jobs that have ended, the last first, that meet all conditions that are not null: in the history, and dead
-- letters. p_outcome is succeeded or dead_letter; the other conditions are as in find_jobs, except that p_since and
-- p_until are about the end. A payload's path finds nothing in histories without payloads.
--
-- Only ends before (p_before, p_before_id) are searched; null for all. It stops when p_limit jobs are found or
-- p_patience has elapsed. `searched_to` is the time of the earliest end that it examined, null for all. The jobs are
-- `ids` with the times of their `ends`, and whether each is `in_history`.
create function breakwater.find_ended(
    p_before timestamptz, p_before_id bigint, p_kind text, p_queue text, p_outcome text, p_path jsonpath, p_key text,
    p_since timestamptz, p_until timestamptz, p_limit integer, p_patience interval,
    out ids bigint[], out ends timestamptz[], out in_history boolean[], out searched_to timestamptz
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set plan_cache_mode = force_custom_plan
as $$
declare
    v_deadline timestamptz := clock_timestamp() + p_patience;
    v_portion  integer := 200;
    v_at       timestamptz := coalesce(p_before, 'infinity');
    v_id       bigint := coalesce(p_before_id, 9223372036854775807);
    v_since    timestamptz := coalesce(p_since, '-infinity');
    v_kinds    text[] := case when p_kind is not null then array[p_kind]
                              else array(select h.kind from breakwater.handler h where h.history_keep is not null) end;
    v_looked   integer;
    v_found    record;
begin
    ids := '{}';
    ends := '{}';
    in_history := '{}';
    if p_until < v_at then
        v_at := p_until;
        v_id := -9223372036854775808;
    end if;
    loop
        with seen as materialized (
            (select f.id, f.finished_at as at, true as is_history, f.queue, f.kind, f.outcome, f.payload, f.key, f.unique_key
               from unnest(v_kinds) k(kind)
              cross join lateral (
                    select f.* from breakwater.finished f
                     where p_key is null and f.kind = k.kind collate "C" and f.finished_at >= v_since
                       and f.finished_at <= v_at and (f.finished_at, f.id) < (v_at, v_id)
                     order by f.finished_at desc, f.id desc limit v_portion) f)
            union all
            (select f.id, f.finished_at, true, f.queue, f.kind, f.outcome, f.payload, f.key, f.unique_key
               from breakwater.finished f
              where f.key = p_key collate "C" and f.finished_at >= v_since
                and f.finished_at <= v_at and (f.finished_at, f.id) < (v_at, v_id)
              order by f.finished_at desc, f.id desc limit v_portion)
            union all
            (select f.id, f.finished_at, true, f.queue, f.kind, f.outcome, f.payload, f.key, f.unique_key
               from breakwater.finished f
              where f.unique_key = p_key collate "C" and f.key is distinct from p_key and f.finished_at >= v_since
                and f.finished_at <= v_at and (f.finished_at, f.id) < (v_at, v_id)
              order by f.finished_at desc, f.id desc limit v_portion)
            union all
            (select d.id, d.died_at, false, d.queue, d.kind, 'dead_letter', d.payload,
                    case when p_key is not null
                         then (select breakwater.key_of(d.payload, coalesce(h.history_key, h.key_path))
                                 from breakwater.handler h where h.kind = d.kind) end, d.unique_key
               from breakwater.dead_letter d
              where (p_kind is null or d.kind = p_kind collate "C") and d.died_at >= v_since
                and d.died_at <= v_at and (d.died_at, d.id) < (v_at, v_id)
                and coalesce(p_outcome, 'dead_letter') = 'dead_letter'
              order by d.died_at desc, d.id desc limit v_portion)
        ), looked as materialized (
            select * from seen s order by s.at desc, s.id desc limit v_portion
        ), matching as (
            select m.* from looked m
             where (p_kind is null or m.kind = p_kind collate "C") and (p_queue is null or m.queue = p_queue collate "C")
               and (p_outcome is null or m.outcome = p_outcome)
               and (p_key is null or m.key = p_key collate "C" or m.unique_key = p_key collate "C")
               and (p_path is null or breakwater.matches_path(m.payload, p_path))
               -- The dead letter itself is among them.
               and not (m.is_history and m.outcome = 'dead_letter'
                        and exists (select from breakwater.dead_letter d where d.id = m.id and d.died_at = m.at))
             order by m.at desc, m.id desc
             limit p_limit - cardinality(ids)
        )
        select (select array_agg(m.id order by m.at desc, m.id desc) from matching m) as ids,
               (select array_agg(m.at order by m.at desc, m.id desc) from matching m) as ends,
               (select array_agg(m.is_history order by m.at desc, m.id desc) from matching m) as in_history,
               (select count(*) from looked) as looked, l.at, l.id
          into v_found
          from (select k.at, k.id from looked k order by k.at, k.id limit 1) l;
        if not found then
            searched_to := null;
            return;
        end if;
        ids := ids || coalesce(v_found.ids, '{}');
        ends := ends || coalesce(v_found.ends, '{}');
        in_history := in_history || coalesce(v_found.in_history, '{}');
        v_looked := v_found.looked;
        v_at := v_found.at;
        v_id := v_found.id;
        searched_to := v_at;
        if cardinality(ids) >= p_limit then
            searched_to := ends[p_limit];
            return;
        elsif v_looked < v_portion then
            searched_to := null;
            return;
        end if;
        exit when clock_timestamp() > v_deadline;
        v_portion := least(v_portion * 2, 10000);
    end loop;
end
$$;
