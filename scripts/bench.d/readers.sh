# shellcheck shell=bash disable=SC2154 # scripts/bench sets these variables.
#
# Measures how much sessions that read the table slow down the workers, and how many dead rows they have to read.

READERS=4

# Starts READERS sessions. Each reads the whole table twice in one snapshot, half a second apart, and pauses for as
# long.
start_readers() {
    cat >"$TEMP_DIR/reader.sql" <<'SQL'
begin isolation level repeatable read;
select count(*), max(length(payload::text)) from breakwater.job;
\sleep 500 ms
select count(*), max(length(payload::text)) from breakwater.job;
commit;
\sleep 500 ms
SQL
    env "$RUN_MARK" PGAPPNAME=reader "$PG_BIN/pgbench" --no-vacuum --client="$READERS" --time=86400 \
        --file="$TEMP_DIR/reader.sql" "$PG_URL" >"$TEMP_DIR/readers.log" 2>&1 &
    readers=$!
    until [[ $(sql -c "select count(*) from pg_stat_activity where application_name = 'reader'") == "$READERS" ]]; do
        kill -0 "$readers" 2>/dev/null || fail "the readers ended: $(tail -n 3 "$TEMP_DIR/readers.log")"
        sleep 0.05
    done
    readers_start=$EPOCHREALTIME
}

# Ends the sessions, and sets `readers_busy` to the number of processors that they kept busy.
end_readers() {
    local seconds ticks stats
    mapfile -t stats < <(sql -c "select format('/proc/%s/stat', pid) from pg_stat_activity where application_name = 'reader'")
    seconds=$(awk "BEGIN { print $EPOCHREALTIME - $readers_start }")
    ticks=$(sed 's/^\([0-9]*\) (.*) /\1 /' "${stats[@]}" | awk '{ sum += $13 + $14 } END { print sum }')
    kill "$readers"
    wait "$readers" 2>/dev/null || true
    readers_busy=$(awk "BEGIN { print $ticks / $(getconf CLK_TCK) / $seconds }")
}

# Runs two workers that always have a backlog of thousands of jobs.
saturate() {
    reset
    drain readers "$1" --processes 2 --jobs 100000000 --feed 5000 --limit "$(size 15s 1500ms)"
}

saturate_with_readers() {
    reset
    start_readers
    drain readers "$READERS sessions read" --processes 2 --jobs 100000000 --feed 5000 --limit "$(size 15s 1500ms)"
    end_readers
    note readers 'what the sessions themselves took' "$readers_busy" processors
}

# dead_rows WHAT: notes the highest number of dead rows under a steady load, by the server's own statistics.
dead_rows() {
    run "$worker" bench soak --database "$PG_URL" --leave-traces --duration "$(size 60s 4s)" --interval 1s --rate 800 \
        --failing 0 --scheduled 0 >"$TEMP_DIR/soak.csv" 2>>"$TEMP_DIR/worker.log" ||
        fail "the soak failed: $(tail -n 3 "$TEMP_DIR/worker.log")"
    note readers "dead rows at 800 jobs/s, $1" "$(awk -F , '
        NR == 1 { for (i = 1; i <= NF; i++) if ($i == "dead_tuples") column = i; next }
        $column > most { most = $column }
        END { print most + 0 }' "$TEMP_DIR/soak.csv")" rows
}

readers_once() {
    if ((round % 2)); then
        saturate 'nobody reads'
        saturate_with_readers
    else
        saturate_with_readers
        saturate 'nobody reads'
    fi
    reset
    dead_rows 'nobody reads'
    reset
    start_readers
    dead_rows "$READERS sessions read"
    end_readers
}

part_readers() {
    rounds readers_once
    compare readers "$READERS sessions read" 'nobody reads' '>=0.95'
    goal readers 'dead rows at 800 jobs/s, nobody reads' '<=10000'
    goal readers "dead rows at 800 jobs/s, $READERS sessions read" '<=10000'
}
