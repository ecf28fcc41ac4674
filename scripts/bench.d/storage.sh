# shellcheck shell=bash disable=SC2154 # scripts/bench sets these variables.
#
# Measures a job's cost for the server and its worker, and the speed; with --against, beside another build.

ENQUEUED=('INSERT, 1 client' 'INSERT, 8 clients' 'enqueue_many of 1000' 'COPY of 1000')

# Without this, autovacuum would run at random times.
autovacuum() { sql -c "alter system set autovacuum = $1" -c 'select pg_reload_conf()' >/dev/null; }

wal_position() { sql -c "select pg_current_wal_insert_lsn() - '0/0'"; }

# storage_note WHAT VALUE UNIT
storage_note() { note storage "$1$build" "$2" "$3"; }

# Lets one worker drain all jobs from their table.
#
# The server's time is the processor time of all its processes, from /proc. It includes everything that the worker's
# sessions do (planning, protocol and commit), and the processes which write WAL and pages for them. The execution time
# in pg_stat_statements includes none of these, and on a busy machine it counts the waits for a processor. The figure
# also includes the cost of starting a worker and of counting the settled jobs fifty times a second, 1% of a million
# jobs.
storage_drain() {
    local wal time
    reset
    autovacuum off
    # Every page is filled after the checkpoint, so no whole page is written to the WAL during the drain.
    sql -c checkpoint
    fill breakwater.job "$STORAGE_JOBS"
    storage_note "$STORAGE_JOBS waiting jobs, table and indexes" \
        "$(sql -c "select pg_total_relation_size('breakwater.job') / 1048576.0")" MB
    wal=$(wal_position)
    time=$(server_time)
    drain storage "drain, one worker$build" --jobs "$STORAGE_JOBS"
    storage_note 'server, claim and settle' "$(awk "BEGIN { print ($(server_time) - $time) * 1e6 / $STORAGE_JOBS }")" 'µs a job'
    storage_note 'WAL' "$(awk "BEGIN { print ($(wal_position) - $wal) / $STORAGE_JOBS }")" 'bytes a job'
    storage_note 'the worker itself' \
        "$(awk "BEGIN { print $(field processor_seconds <"$TEMP_DIR/drain.json") * 1e6 / $STORAGE_JOBS }")" 'µs a job'
    time=$(server_time)
    sql -c 'vacuum breakwater.job, breakwater.claim'
    storage_note 'server, VACUUM afterwards' "$(awk "BEGIN { print ($(server_time) - $time) * 1e6 / $STORAGE_JOBS }")" 'µs a job'
    autovacuum on
}

storage_fleet() {
    reset
    fill breakwater.job "$STORAGE_JOBS"
    drain storage "drain, four workers$build" --jobs "$STORAGE_JOBS" --processes 4
}

storage_batches() {
    local jobs=$((DRAIN_JOBS / 2))
    reset
    fill breakwater.job "$jobs"
    drain storage "8 workers, handlers of 1 ms, concurrency 10$build" --jobs "$jobs" --processes 8 --handler-time 1ms \
        --concurrency 10
}

storage_latency() {
    local name
    reset
    bench latency --jobs "$(size 1000 60)" >"$TEMP_DIR/latency.json" ||
        fail "the latency benchmark failed: $(tail -n 3 "$TEMP_DIR/worker.log")"
    for name in p50 p99; do storage_note "pick-up $name" "$(field "${name}_ms" <"$TEMP_DIR/latency.json")" ms; done
}

# Enqueues into a table from which no worker claims jobs. The argument is one of ENQUEUED.
storage_enqueue() {
    reset
    storage_note "$1" "$(enqueue_rate "$1" ours)" jobs/s
}

storage_held() {
    reset
    case $1 in
    'a snapshot') hold "$PG_URL" 'begin isolation level repeatable read' 'select count(*) from pg_class' ;;
    'an xid') hold "$PG_URL" 'begin' 'select pg_current_xact_id()' ;;
    esac
    drain storage "enqueue and drain, holding $1$build" --jobs 500000 --feed 5000 --limit "$(size 3m 2500ms)"
    storage_note "last tenth to first, holding $1" "$(field last_tenth_to_first <"$TEMP_DIR/drain.json")" ratio
    let_go rollback
}

storage_once() {
    local what
    both storage_drain
    both storage_fleet
    both storage_batches
    both storage_latency
    for what in "${ENQUEUED[@]}"; do both storage_enqueue "$what"; done
    for what in 'a snapshot' 'an xid'; do both storage_held "$what"; done
}

# "No worse" allows for a twentieth, by which turns differ.
part_storage() {
    local what
    STORAGE_JOBS=$(size 1000000 100000)
    make_rows
    rounds storage_once
    compare_builds storage "$STORAGE_JOBS waiting jobs, table and indexes" '<=0.65'
    compare_builds storage 'drain, one worker' '>=1.8'
    compare_builds storage 'server, claim and settle' '<=0.45'
    compare_builds storage 'WAL' '<=0.7'
    compare_builds storage 'the worker itself' ''
    goal storage 'the worker itself' '<=3'
    compare_builds storage 'server, VACUUM afterwards' ''
    compare storage 'drain, four workers' 'drain, one worker' '>=1'
    compare_builds storage 'drain, four workers' ''
    compare_builds storage '8 workers, handlers of 1 ms, concurrency 10' '>=1.5'
    for what in p50 p99; do compare_builds storage "pick-up $what" '<=1.05'; done
    for what in "${ENQUEUED[@]}"; do compare_builds storage "$what" '>=0.95'; done
    for what in 'a snapshot' 'an xid'; do
        compare_builds storage "enqueue and drain, holding $what" '>=1.5'
        goal storage "last tenth to first, holding $what" '>=0.95'
    done
}
