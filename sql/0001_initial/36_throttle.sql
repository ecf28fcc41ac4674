-- Delays that grow while a job repeatedly ends with the same class in runs that spend no attempt. The limit of attempts
-- does not apply to these runs.

-- How many seconds a job waits after a run ended with a class: a second after the first time, and twice as long after
-- each further time in a row, up to a limit. Up to a half of the delay is added at random, so that jobs that ended
-- together do not run again together. `p_errors` is the job's history, which ends with the error of this run.
create function breakwater.repeat_delay(p_errors jsonb, p_class text, p_longest double precision)
returns double precision
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        with error as (
            select e.number, e.value ->> 'class' as class
              from jsonb_array_elements(case when jsonb_typeof(p_errors) = 'array' then p_errors else '[]' end)
                   with ordinality e(value, number)
        ), repeats as (
            select count(*) as count
              from error e
             where e.number > coalesce((select max(o.number) from error o where o.class is distinct from p_class), 0)
        )
        select least(p_longest, 2.0 ^ (greatest(r.count, 1) - 1)) * (1 + random() / 2) from repeats r);
end
$$;
