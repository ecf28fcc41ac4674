-- Prints the expressions of standard input for which the schema says other times than the oracle.
create temp table oracle (
    expression text, start timestamp, who text, first timestamp, second timestamp, third timestamp, fourth timestamp,
    fifth timestamp
);
\copy oracle from pstdin

create function pg_temp.times(p_expression text, p_start timestamp) returns timestamp[]
language plpgsql
as $$
declare
    v_cron  breakwater.cron := breakwater.read_cron(p_expression);
    v_times timestamp[] := array[p_start];
begin
    for i in 1 .. 5 loop
        v_times := v_times || breakwater.next_match(v_cron, v_times[i]);
    end loop;
    return v_times[2:];
end
$$;

select format('%s after %s: %s, and by %s %s', o.expression, o.start, t.times, o.who, e.times)
  from oracle o
 cross join lateral (select pg_temp.times(o.expression, o.start) as times) t
 cross join lateral (select array[o.first, o.second, o.third, o.fourth, o.fifth] as times) e
 where t.times <> e.times
 limit 10;
