# shellcheck shell=bash disable=SC2154 # scripts/bench sets these variables.
#
# Measures what the history of finished jobs costs, and how long it takes to drop one of its days.

history_once() {
    local jobs=$((DRAIN_JOBS / 2))
    reset
    fill breakwater.job "$jobs"
    drain history 'off' --jobs "$jobs"

    reset
    fill breakwater.job "$jobs"
    drain history 'on' --jobs "$jobs" --history
    [[ $(sql -c "select count(*) from breakwater.finished where kind = 'bench.kind1'") == "$jobs" ]] ||
        fail "history: not every job is in it"

    reset
    fill_keys "$jobs" 10000
    drain history 'on, with 10,000 keys' --jobs "$jobs" --history --history-key text

    reset
    drain history 'enqueue and drain, off' --jobs 500000 --feed 5000 --limit "$(size 1m 2s)"
    reset
    drain history 'enqueue and drain, on' --jobs 500000 --feed 5000 --limit "$(size 1m 2s)" --history
    reset
    hold "$PG_URL" 'begin isolation level repeatable read' 'select count(*) from pg_class'
    drain history 'enqueue and drain, on, holding a snapshot' --jobs 500000 --feed 5000 --limit "$(size 1m 2s)" \
        --history
    note history 'last tenth to first, on, holding a snapshot' \
        "$(field last_tenth_to_first <"$TEMP_DIR/drain.json")" ratio
    let_go rollback
    reset
}

# Drops a day with many rows, while a worker drains jobs of a kind with a history.
history_drop() {
    local rows start longest stream
    rows=$(size 50000000 1000000)
    sql -c "select breakwater.add_history_day('2020-01-01')" \
        -c "insert into breakwater.finished_job (
                id, kind, queue, priority, outcome, attempt, enqueued_at, ready_at, claimed_at, finished_at, worker,
                worker_name)
            select i, 'bench.kind1', 'bench.queue1', 5, 'succeeded', 1, t, t, t, t, 1, 'worker-1'
              from generate_series(1, $rows) i
             cross join lateral (select '2020-01-01Z'::timestamptz + i * interval '1 millisecond' as t) t" >/dev/null
    sql -c 'select pg_stat_statements_reset()' >/dev/null
    bench drain --leave-traces --jobs 100000000 --feed 2000 --limit "$(size 20 6)s" --history >"$TEMP_DIR/stream.json" &
    stream=$!
    until [[ $(sql -c "select exists (select from breakwater.finished_job
                                      where finished_at > now() - interval '1 hour')") == t ]]; do
        kill -0 "$stream" 2>/dev/null || fail "the drain ended early: $(tail -n 3 "$TEMP_DIR/worker.log")"
        sleep 0.05
    done
    start=$EPOCHREALTIME
    # A settle that holds the lock at that moment may make one try give up.
    until [[ $(sql -c 'select breakwater.drop_history(1)') == 1 ]]; do
        kill -0 "$stream" 2>/dev/null || fail 'the day was not dropped while jobs were settled'
    done
    note history "dropping a day of $rows rows while jobs are settled" \
        "$(awk "BEGIN { print ($EPOCHREALTIME - $start) * 1000 }")" ms
    wait "$stream" || fail "the drain failed: $(tail -n 3 "$TEMP_DIR/worker.log")"
    [[ $(field lost <"$TEMP_DIR/stream.json") == 0 ]] || fail "history: jobs were lost: $(cat "$TEMP_DIR/stream.json")"
    # The longest time that a settle took, with its wait for the lock.
    longest=$(sql -c "select round(max(max_exec_time)::numeric, 1) from pg_stat_statements
                       where query like '%from breakwater.settle(%' and toplevel")
    note history 'longest settle meanwhile' "$longest" ms
}

part_history() {
    local rows
    rows=$(size 50000000 1000000)
    rounds history_once
    round=1
    history_drop
    round=0
    compare history 'on' 'off' '>=0.5'
    compare history 'on, with 10,000 keys' 'off' ''
    compare history 'enqueue and drain, on' 'enqueue and drain, off' '>=0.5'
    compare history 'enqueue and drain, on, holding a snapshot' 'enqueue and drain, on' ''
    goal history 'last tenth to first, on, holding a snapshot' '>=0.95'
    goal history "dropping a day of $rows rows while jobs are settled" '<=1000'
}
