-- Throttling: when a job runs again that its dependency refused for now, as an HTTP server does with a 429.

-- How many seconds a throttled job waits if the dependency did not say when, or named a time in the past.
--
-- It is a second after the first time, and twice as long after each further time in a row, up to an hour. A random part of
-- up to a half is added, so that jobs that were throttled together do not come back together. `p_errors` is the job's
-- history, which ends with the error of this run.
create function breakwater.throttle_delay(p_errors jsonb) returns double precision
language sql volatile set search_path = pg_catalog, pg_temp
as $$
    with error as (
        select e.number, e.value ->> 'class' as class
          from jsonb_array_elements(case when jsonb_typeof(p_errors) = 'array' then p_errors else '[]' end)
               with ordinality e(value, number)
    ), repeats as (
        select count(*) as count
          from error e
         where e.number > coalesce((select max(o.number) from error o where o.class is distinct from 'throttled'), 0)
    )
    select least(3600, 2.0 ^ (greatest(r.count, 1) - 1)) * (1 + random() / 2) from repeats r
$$;
