# shellcheck shell=bash disable=SC2154 # scripts/bench sets these variables.
#
# Measures how long a claim takes beside many other jobs or kinds.

# Prints the median time of fifty claims of 100 jobs in a database, in milliseconds. They are rolled back.
claim_time() {
    sql --dbname "$1" <<'SQL'
vacuum breakwater.job;
create or replace function pg_temp.claim_time() returns double precision language plpgsql as $$
declare
    v_worker bigint;
    v_start  timestamptz;
    v_times  double precision[] := '{}';
begin
    insert into breakwater.worker (name, version, queues, kinds, concurrency, lease)
    values ('claims', '', '{}', '{}', 1, '1 hour') returning id into v_worker;
    insert into breakwater.lane (queue, kind, priority) values ('bench.queue1', 'bench.kind1', 5);
    for i in 1..50 loop
        v_start := clock_timestamp();
        perform from breakwater.claim(v_worker, '{bench.queue1}', '{bench.kind1}', '{5}', '{1}', '{100}', '{100}', 100, false);
        v_times := v_times || extract(epoch from clock_timestamp() - v_start)::double precision * 1000;
    end loop;
    assert (select sum(cardinality(c.jobs)) from breakwater.claim c) = 5000, 'a claim came back short';
    return (select percentile_cont(0.5) within group (order by t) from unnest(v_times) t);
end $$;
begin;
select pg_temp.claim_time();
rollback;
SQL
}

# Makes a database for each backlog, so that they can take turns without being filled again.
make_backlog() {
    sql -c "create database backlog_$1"
    "$worker" migrate --database "$PG_BASE/backlog_$1" >/dev/null
    sql --dbname "$PG_BASE/backlog_$1" -v "payload=$PAYLOAD" -v "ready=$2" -v "scheduled=$3" <<'SQL'
insert into breakwater.job (queue, kind, payload, run_at)
select 'bench.queue1', 'bench.kind1', :'payload', now() + interval '1 day' + i * interval '1 ms'
  from generate_series(1, :scheduled) i;
insert into breakwater.job (queue, kind, payload)
select 'bench.queue1', 'bench.kind1', :'payload' from generate_series(1, :ready);
vacuum (analyze) breakwater.job;
SQL
}

backlog_once() {
    note backlog 'claim, nothing else there' "$(claim_time "$PG_BASE/backlog_nothing")" ms
    note backlog "claim, $READY_JOBS ready jobs" "$(claim_time "$PG_BASE/backlog_ready")" ms
    note backlog "claim, $SCHEDULED_JOBS scheduled jobs" "$(claim_time "$PG_BASE/backlog_scheduled")" ms
}

# A worker remembers which kinds are alive, so the cost of many kinds shows in the speed of its drain.
kinds_once() {
    local jobs=$((DRAIN_JOBS / 2))
    reset
    fill breakwater.job "$jobs"
    drain backlog 'drain, 1 kind' --jobs "$jobs"
    reset
    fill breakwater.job "$jobs"
    drain backlog 'drain, 200 kinds' --jobs "$jobs" --idle-kinds 199
}

part_backlog() {
    READY_JOBS=$(size 1000000 30000) SCHEDULED_JOBS=$(size 5000000 60000)
    say "adding $READY_JOBS ready and $SCHEDULED_JOBS scheduled jobs"
    make_backlog nothing 5000 0
    make_backlog ready "$READY_JOBS" 0
    make_backlog scheduled 5000 "$SCHEDULED_JOBS"
    rounds backlog_once
    sql -c 'drop database backlog_nothing' -c 'drop database backlog_ready' -c 'drop database backlog_scheduled'
    rounds kinds_once
    compare backlog "claim, $READY_JOBS ready jobs" 'claim, nothing else there' '<=1.5'
    compare backlog "claim, $SCHEDULED_JOBS scheduled jobs" 'claim, nothing else there' '<=1.5'
    # With many kinds, each job may take half as much time again.
    compare backlog 'drain, 200 kinds' 'drain, 1 kind' '>=0.67'
}
