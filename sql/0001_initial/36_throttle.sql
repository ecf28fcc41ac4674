-- Delays that grow while a job ends in the same way again and again, in runs that spend no attempt. Attempts cannot
-- bound these.

-- How many seconds a job waits after it has ended in a class: a second after the first time, and twice as long after
-- each further time in a row, up to a limit. A random part of up to a half is added, so that jobs that ended together
-- do not come back together. `p_errors` is the job's history, which ends with the error of this run.
create function breakwater.repeat_delay(p_errors jsonb, p_class text, p_longest double precision)
returns double precision
language sql volatile set search_path = pg_catalog, pg_temp
as $$
    with error as (
        select e.number, e.value ->> 'class' as class
          from jsonb_array_elements(case when jsonb_typeof(p_errors) = 'array' then p_errors else '[]' end)
               with ordinality e(value, number)
    ), repeats as (
        select count(*) as count
          from error e
         where e.number > coalesce((select max(o.number) from error o where o.class is distinct from p_class), 0)
    )
    select least(p_longest, 2.0 ^ (greatest(r.count, 1) - 1)) * (1 + random() / 2) from repeats r
$$;

-- In how many seconds a throttled job runs again (after an HTTP server's 429, for example), if the dependency did not
-- say when, or named a time in the past.
create function breakwater.throttle_delay(p_errors jsonb) returns double precision
language sql volatile set search_path = pg_catalog, pg_temp
as $$ select breakwater.repeat_delay(p_errors, 'throttled', 3600) $$;

-- In how many seconds a job runs again that its worker was unable to run. Another worker may be able to, so the job
-- waits a minute and a half at most.
create function breakwater.unable_delay(p_errors jsonb) returns double precision
language sql volatile set search_path = pg_catalog, pg_temp
as $$ select breakwater.repeat_delay(p_errors, 'unable', 60) $$;
