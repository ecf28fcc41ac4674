-- Evidence: the data that led to a circuit's transition, which is stored with it.

-- The evidence of an opening, as JSON: the failures by name, three example jobs, the workers that had the failures, and
-- the suspected payload value, if there is one. p_circuit is the circuit as it was before it opened.
create function breakwater.evidence_of_opening(p_circuit breakwater.circuit, p_policy breakwater.handler) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp set enable_sort = on
as $$
declare
    v_failures breakwater.failure[];
    v_jobs     bigint[];
begin
    -- The failures of the window, or of a streak that is longer than the window.
    v_failures := array(
        select f
          from (select f, row_number() over (order by f.id desc) as age
                  from breakwater.failure f
                 where f.kind = p_circuit.kind and f.key = p_circuit.key and f.generation = p_circuit.generation
                 order by f.id desc
                 limit 500) r
         where (r.f).at > breakwater.clock() - coalesce(p_policy.circuit_window, interval '1 minute')
            or r.age <= p_policy.consecutive_failures);
    v_jobs := array(select distinct j from unnest(v_failures) f cross join unnest(f.jobs) j limit 100);
    return jsonb_strip_nulls(jsonb_build_object(
        'failures', (select jsonb_agg(jsonb_build_object('name', n.name, 'count', n.count) order by n.count desc, n.name)
                       from (select f.name, sum(f.failed) as count from unnest(v_failures) f
                              group by f.name order by 2 desc, 1 limit 20) n),
        'repeats', (select nullif(sum(f.repeats), 0) from unnest(v_failures) f),
        'examples', (select jsonb_agg(jsonb_build_object('job', e.job, 'name', e.name, 'message', e.message, 'at', e.at)
                                      order by e.at desc)
                       from (select distinct on (j) j as job, f.name, f.message, f.at
                               from unnest(v_failures) f cross join unnest(f.jobs) j
                              order by j, f.at desc limit 3) e),
        'workers', (select jsonb_agg(jsonb_build_object('worker', w.worker, 'name', w.name, 'count', w.count)
                                     order by w.count desc, w.worker)
                      from (select f.worker, (select o.name from breakwater.worker o where o.id = f.worker) as name,
                                   sum(f.failed) as count
                              from unnest(v_failures) f group by f.worker order by 3 desc, 1 limit 20) w),
        'common_value', breakwater.common_value_among(
            case when p_circuit.kind <> '*' then p_circuit.kind end, v_jobs)));
end
$$;

-- The results of a round's probes, as JSON. p_circuit is the circuit as it was while half-open.
create function breakwater.evidence_of_round(p_circuit breakwater.circuit) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select jsonb_build_object('probes', coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
               'job', r.job, 'outcome', r.outcome, 'name', r.name, 'message', r.message, 'worker', r.worker, 'at', r.at))
               order by r.id), '[]'))
      from (select * from breakwater.probe_result o
             where o.kind = p_circuit.kind and o.key = p_circuit.key and o.generation = p_circuit.generation
             order by o.id desc limit 100) r
$$;

-- The strings, numbers and booleans in an object's fields, and in the fields of its objects, each with its path in the
-- form of a circuit's `key:`.
create function breakwater.fields_of(p_payload jsonb) returns table (path text, value text)
language sql immutable
as $$
    with field as (
        select array[e.key] as names, e.value
          from jsonb_each(case when jsonb_typeof(p_payload) = 'object' then p_payload else '{}' end) e
        union all
        select array[o.key, e.key], e.value
          from jsonb_each(case when jsonb_typeof(p_payload) = 'object' then p_payload else '{}' end) o
         cross join lateral jsonb_each(case when jsonb_typeof(o.value) = 'object' then o.value else '{}' end) e
    )
    select '$.' || array_to_string(f.names, '.'), f.value #>> '{}'
      from field f
     where jsonb_typeof(f.value) in ('string', 'number', 'boolean') and length(f.value #>> '{}') between 1 and 200
       and not exists (select from unnest(f.names) n where n !~ '^[A-Za-z_][A-Za-z0-9_-]*$')
     limit 200
$$;

-- The value of a payload field in which failures concentrate: at least four in five failed jobs have it, and at most
-- one in five jobs that wait and have not failed. null if there is none, or if fewer than five jobs of either group are
-- known. If p_kind is null, jobs of all kinds of the failed jobs are compared.
--
-- It reads at most a hundred payloads of each group, none of more than 64 kB, and in each of them the fields of two
-- levels.
create function breakwater.common_value_among(p_kind text, p_failed bigint[]) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp set enable_sort = on
as $$
    with failed as (
        select j.id, j.kind, j.payload from breakwater.job j
         where j.id = any (p_failed) and pg_column_size(j.payload) <= 65536
        union all
        select d.id, d.kind, d.payload from breakwater.dead_letter d
         where d.id = any (p_failed) and pg_column_size(d.payload) <= 65536
    ), other as (
        select w.id, w.payload
          from (select distinct f.kind from failed f) k
          join breakwater.lane a on a.kind = k.kind and (p_kind is null or a.kind = p_kind collate "C")
         cross join lateral (
               (select j.id, j.payload from breakwater.job j
                 where j.queue = a.queue and j.kind = a.kind and j.priority = a.priority and j.run_at is null
                   and j.errors is null and pg_column_size(j.payload) <= 65536
                 order by j.position limit 50)
               union
               (select j.id, j.payload from breakwater.job j
                 where j.queue = a.queue and j.kind = a.kind and j.priority = a.priority and j.run_at is null
                   and j.errors is null and pg_column_size(j.payload) <= 65536
                 order by j.position desc limit 50)) w
         where w.id <> all (p_failed)
         limit 100
    ), field as (
        select d.is_failed, d.id, e.path, e.value
          from (select true as is_failed, f.id, f.payload from failed f
                union all
                select false, o.id, o.payload from other o) d
         cross join lateral breakwater.fields_of(d.payload) e
    ), counted as (
        select f.path, f.value, count(distinct f.id) filter (where f.is_failed) as failed,
               count(distinct f.id) filter (where not f.is_failed) as others
          from field f group by f.path, f.value
    ), total as (
        select (select count(*) from failed) as failed, (select count(*) from other) as others
    )
    select jsonb_build_object(
               'path', c.path, 'value', c.value, 'failed', c.failed, 'of_failed', t.failed,
               'others', c.others, 'of_others', t.others)
      from counted c cross join total t
     where t.failed >= 5 and t.others >= 5
       and c.failed >= 0.8 * t.failed and c.others <= 0.2 * t.others
     order by c.failed::float8 / t.failed - c.others::float8 / t.others desc, length(c.path), c.path
     limit 1
$$;

-- The failures of some evidence in one line: `http.500 (9), http.timeout (1)`. null: there are none.
create function breakwater.failures_in_words(p_evidence jsonb) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
    select string_agg(format('%s (%s)', f.value ->> 'name', f.value ->> 'count'), ', ' order by f.place)
      from jsonb_array_elements(p_evidence -> 'failures') with ordinality f(value, place)
     where f.place <= 5
$$;

-- How the probes of some evidence ended, in one line: `succeeded (2), http.503 (1)`. null: there are none.
create function breakwater.probes_in_words(p_evidence jsonb) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
    select string_agg(format('%s (%s)', e.ending, e.count), ', ' order by e.count desc, e.ending)
      from (select coalesce(p.value ->> 'name', p.value ->> 'outcome') as ending, count(*) as count
              from jsonb_array_elements(p_evidence -> 'probes') p(value)
             group by 1 order by 2 desc, 1 limit 5) e
$$;
