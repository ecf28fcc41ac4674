# shellcheck shell=bash disable=SC2154 # scripts/bench sets these variables.
#
# Prints the results: a table with the goals, the peers side by side, and JSON.

report() {
    sql -v "figures=$figures" -v "comparisons=$comparisons" -v "goals=$goals" <<SQL
create schema report;
set search_path = report;
create table figure (place serial, part text, what text, round integer, value double precision, unit text);
\copy figure (part, what, round, value, unit) from '$figures'
create table comparison (part text, what text, base text, goal text);
\copy comparison from '$comparisons'
create table goal (part text, what text, goal text, scope text);
\copy goal from '$goals'

-- Whether a value is what a goal such as '>=0.9' asks for; null without a goal.
create function is_met(value double precision, goal text) returns boolean language sql immutable as \$\$
    select case when goal like '>=%' then value >= substr(goal, 3)::double precision
                when goal like '<=%' then value <= substr(goal, 3)::double precision end
\$\$;
create function show(value double precision) returns text language sql immutable as \$\$
    select round(value::numeric, case when abs(value) < 100 then 2 else 0 end)::text
\$\$;

create view ratio as
select c.part, c.what, c.base, nullif(c.goal, '') as goal,
       percentile_cont(0.5) within group (order by f.value / b.value) as median,
       min(f.value / b.value) as lowest, max(f.value / b.value) as highest
  from comparison c
  join figure f on f.part = c.part and f.what = c.what
  join figure b on b.part = c.part and b.what = c.base and b.round = f.round and b.value > 0
 group by 1, 2, 3, 4;

create view summary as
select f.part, f.what, f.unit, min(f.place) as place, count(*) as turns,
       percentile_cont(0.5) within group (order by f.value) as median, min(f.value) as lowest, max(f.value) as highest,
       g.goal || case g.scope when 'median' then '' else ' in every turn' end as goal,
       case g.scope when 'median'
            then is_met(percentile_cont(0.5) within group (order by f.value), g.goal)
            else bool_and(is_met(f.value, g.goal)) end as is_met
  from figure f left join goal g using (part, what)
 group by f.part, f.what, f.unit, g.goal, g.scope;

create view results as
select s.part, s.what, show(s.median) as median, s.unit, show(s.lowest) || ' to ' || show(s.highest) as spread,
       show(r.median) as ratio, show(r.lowest) || ' to ' || show(r.highest) as "its spread", r.base as "of what",
       coalesce(r.goal, s.goal) as goal,
       case coalesce(is_met(r.median, r.goal), s.is_met) when true then 'met' when false then 'NOT MET' end as "met?"
  from summary s left join ratio r using (part, what)
 where s.part <> 'peers'
 order by s.place;
SQL
    sql -c "create view report.peers as select $(peer_columns) from report.summary s
             where s.part = 'peers' group by split_part(s.what, ', ', 1) order by min(s.place)"
    print_table results "$(date -u +%Y-%m-%d), $(nproc) processors"
    [[ " ${only[*]} " != *' peers '* ]] || print_table peers 'Median of three turns or more; lowest to highest'
    report_goals
    [[ -z $json ]] || report_json
    say "all of it took $((took / 60)) min $((took % 60)) s; load $(cut -d ' ' -f 1-3 /proc/loadavg)"
}

report_goals() {
    local counts
    counts=$(sql -c "select count(*) filter (where \"met?\" = 'met') || ' of ' || count(\"met?\") || ' goals met'
                       from report.results")
    [[ $counts == *' of 0 '* ]] || say "$counts$([[ -z $quick ]] || echo ', with sizes too small to judge by')"
}

# print_table VIEW CAPTION
print_table() {
    [[ $(sql -c "select exists (select from report.$1)") == t ]] || return 0
    if [[ -z $markdown ]]; then
        psql --no-psqlrc --quiet --dbname "$PG_URL" --pset footer=off --pset border=1 --pset null='' \
            --command "select * from report.$1"
        return
    fi
    psql --no-psqlrc --quiet --csv --dbname "$PG_URL" --pset fieldsep_zero=off --command "select * from report.$1" |
        python3 -c '
import csv, sys
for number, row in enumerate(csv.reader(sys.stdin)):
    print("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    if number == 0:
        print("|" + "---|" * len(row))
'
    printf '\n%s\n\n' "$2"
}

report_json() {
    sql >"$json" <<SQL
set search_path = report;
select jsonb_pretty(jsonb_build_object(
    'at', now(), 'quick', $(if [[ $quick ]]; then echo true; else echo false; fi), 'processors', $(nproc),
    'seconds', $took,
    'settings', (select jsonb_object_agg(name, current_setting(name)) from pg_settings where name in
        ('server_version', 'synchronous_commit', 'fsync', 'full_page_writes', 'shared_buffers', 'max_wal_size')),
    'peers', $(peer_settings_sql),
    'figures', (select jsonb_agg(to_jsonb(f) - 'place' order by f.place) from figure f),
    'goals', (select jsonb_agg(to_jsonb(s) - 'place' order by s.place) from summary s where goal is not null),
    'ratios', (select jsonb_agg(to_jsonb(r) || jsonb_build_object('is_met', is_met(r.median, r.goal))) from ratio r)));
SQL
    say "every figure: $json"
}
