# shellcheck shell=bash disable=SC2154 # scripts/bench sets these variables.
#
# Measures the cost of an idle worker, and how soon a new worker runs its first job.

# Prints the processor time that the server's processes have used, in seconds, including those that have ended since.
server_time() {
    local postmaster
    postmaster=$(head -n 1 "$PG_DIR/data/postmaster.pid")
    # Some processes end while they are read. After the name is removed, fields 13 and 14 are the times of a process,
    # and 15 and 16 those of its children that have ended.
    { cat /proc/[0-9]*/stat 2>/dev/null || true; } | sed 's/^\([0-9]*\) (.*) /\1 /' |
        awk -v parent="$postmaster" -v ticks="$(getconf CLK_TCK)" \
            '$3 == parent || $1 == parent { sum += $13 + $14 }
             $1 == parent { sum += $15 + $16 }
             END { print sum / ticks }'
}

rest_once() {
    local seconds before after calls
    seconds=$(size 20 3)
    reset
    start_idle 10
    # By then the workers have done the work of their start.
    sleep "$(size 3 1)"
    sql -c 'select pg_stat_statements_reset()' >/dev/null
    before=$(server_time)
    sleep "$seconds"
    after=$(server_time)
    # This leaves out our own queries.
    calls=$(sql -c "select sum(calls) from pg_stat_statements where query not like '%pg_stat_statements%' and toplevel")
    end_idle
    note rest 'statements a second, idle worker' "$(awk "BEGIN { print $calls / 10 / $seconds }")" 1/s
    note rest 'server, ten idle workers' "$(awk "BEGIN { print ($after - $before) / $seconds * 100 }")" '% of a core'
    first_run
}

# Starts `worker run` while a job waits. The job's handler prints the time.
first_run() {
    local start
    reset
    sql -c 'truncate breakwater.result' -c "insert into breakwater.job (kind) values ('bench.first')"
    cat >"$TEMP_DIR/first.yaml" <<'YAML'
handlers: { bench.first: { exec: { command: [date, "+%s%N"] }, keep_results: 1h } }
YAML
    start=$(date +%s%N)
    env "$RUN_MARK" "$worker" run --config "$TEMP_DIR/first.yaml" --database "$PG_URL" 2>>"$TEMP_DIR/worker.log" &
    idle=($!)
    until [[ $(sql -c 'select count(*) from breakwater.result') == 1 ]]; do
        kill -0 "${idle[0]}" 2>/dev/null || fail "the worker ended: $(tail -n 3 "$TEMP_DIR/worker.log")"
        sleep 0.02
    done
    end_idle
    note rest 'start of worker run to first handler' \
        "$(awk "BEGIN { print ($(sql -c "select trim(result #>> '{}') from breakwater.result") - $start) / 1e6 }")" ms
}

part_rest() {
    rounds rest_once
    goal rest 'statements a second, idle worker' '<=2'
    goal rest 'server, ten idle workers' '<=1'
    goal rest 'start of worker run to first handler' '<=200'
}
