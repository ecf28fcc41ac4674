# shellcheck shell=bash disable=SC2154 # scripts/bench sets these variables.
#
# Measures jobs that wait for others: chains, a batch with very many jobs, and what these cost jobs for which nobody
# waits.

# chain JOBS: each waits for the one before.
chain() {
    sql -v "jobs=$1" <<'SQL'
select set_config('bench.jobs', :'jobs', false);
do $$
declare
    v_last bigint := breakwater.enqueue('bench.kind1', queue => 'bench.queue1');
begin
    for i in 2..current_setting('bench.jobs')::integer loop
        v_last := breakwater.enqueue('bench.kind1', queue => 'bench.queue1', after => array[v_last]);
    end loop;
end $$;
vacuum (analyze) breakwater.job, breakwater.dependency;
SQL
}

# fan_in JOBS: a batch of them, with a callback.
fan_in() {
    sql -v "jobs=$1" <<'SQL'
begin;
select breakwater.batch('bench.kind1', queue => 'bench.queue1') as batch \gset
select count(*) from breakwater.enqueue_many(
    'bench.kind1', array_fill('{}'::jsonb, array[:jobs]), queue => 'bench.queue1', batch => :batch);
commit;
vacuum (analyze) breakwater.job, breakwater.dependency;
SQL
}

after_once() {
    local long short jobs
    long=$(size 10000 1000) short=$((long / 10))
    for jobs in "$short" "$long"; do
        reset
        chain "$jobs" >/dev/null
        drain after "a chain of $jobs" --jobs "$jobs"
    done
    long=$(size 100000 10000) short=$((long / 10))
    for jobs in "$short" "$long"; do
        reset
        fan_in "$jobs" >/dev/null
        drain after "a batch of $jobs" --jobs "$((jobs + 1))"
    done

    reset
    fill breakwater.job "$DRAIN_JOBS"
    drain after 'nobody waits' --jobs "$DRAIN_JOBS"
    # Another kind's jobs wait, so the end of each job is looked up.
    reset
    sql -c "select breakwater.enqueue('bench.other', after => array[breakwater.enqueue('bench.other')])
              from generate_series(1, 1000)" >/dev/null
    fill breakwater.job "$DRAIN_JOBS"
    drain after 'others wait, not for these' --jobs "$DRAIN_JOBS"
    reset
}

part_after() {
    local long
    rounds after_once
    long=$(size 10000 1000)
    compare after "a chain of $long" "a chain of $((long / 10))" '>=0.9'
    long=$(size 100000 10000)
    compare after "a batch of $long" "a batch of $((long / 10))" '>=0.9'
    compare after 'others wait, not for these' 'nobody waits' ''
}
