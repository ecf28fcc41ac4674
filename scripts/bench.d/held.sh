# shellcheck shell=bash disable=SC2154 # scripts/bench sets these variables.
#
# Measures whether the speed stays while a session holds a snapshot, a transaction, or uncommitted jobs.

HELD=('a snapshot' 'an xid' 'uncommitted jobs')
LATE_JOBS=100

# hold URL STATEMENT...: opens a transaction that has run these statements and stays open.
hold() {
    local url=$1 last=${*: -1}
    shift
    mkfifo "$TEMP_DIR/holder"
    env "$RUN_MARK" PGAPPNAME=holder psql --no-psqlrc --quiet --dbname "$url" \
        <"$TEMP_DIR/holder" >/dev/null 2>>"$TEMP_DIR/holder.log" &
    holder=$!
    exec 8>"$TEMP_DIR/holder"
    printf '%s;\n' "$@" >&8
    until [[ $(sql -v "last=$last" <<<"select count(*) from pg_stat_activity where application_name = 'holder'
                    and state = 'idle in transaction' and starts_with(query, :'last')") == 1 ]]; do
        kill -0 "$holder" 2>/dev/null || fail "the session that holds the transaction ended: $(cat "$TEMP_DIR/holder.log")"
        sleep 0.05
    done
}

# let_go HOW: ends the transaction with `commit` or `rollback`.
let_go() {
    printf '%s;\n\\q\n' "$1" >&8
    exec 8>&-
    wait "$holder"
    rm "$TEMP_DIR/holder"
}

held_once() {
    local what jobs limit before
    jobs=500000 limit=$(size 3m 900ms)
    for what in nothing "${HELD[@]}"; do
        reset
        case $what in
        nothing) ;;
        'a snapshot') hold "$PG_URL" 'begin isolation level repeatable read' 'select count(*) from pg_class' ;;
        'an xid') hold "$PG_URL" 'begin' 'select pg_current_xact_id()' ;;
        *)
            sql -c 'create table if not exists late (id bigint)' -c 'truncate late' 2>/dev/null
            hold "$PG_URL" 'begin' "with added as (
                insert into breakwater.job (queue, kind) select 'bench.queue1', 'bench.kind1'
                  from generate_series(1, $LATE_JOBS) returning id) insert into late select id from added"
            ;;
        esac
        before=$(held_p99 "$what")
        drain held "enqueue and drain, holding $what" --jobs "$jobs" --feed 5000 --limit "$limit"
        note held "last tenth to first, holding $what" "$(field last_tenth_to_first <"$TEMP_DIR/drain.json")" ratio
        if [[ $before ]]; then
            note held "pick-up p99 at first, holding $what" "$before" ms
            note held "pick-up p99 at last, holding $what" "$(held_p99 "$what")" ms
        fi
        case $what in
        nothing) ;;
        'uncommitted jobs') late_commit ;;
        *) let_go rollback ;;
        esac
    done
}

# The held transaction stays open, and so do the versions of rows that it keeps from being removed.
held_p99() {
    local jobs=1000
    if [[ $1 != 'a snapshot' && $1 != 'an xid' ]]; then
        # There is no goal for these cases, and two minutes are not enough for them.
        [[ -z $quick ]] || return 0
        jobs=400
    fi
    # A new worker first searches everything that the others have left behind. That is not measured here.
    bench latency --leave-traces --warm-up "$(size 5 2)s" --jobs "$(size "$jobs" 25)" --interval "$(size 20 10)ms" \
        >"$TEMP_DIR/latency.json" ||
        fail "the latency benchmark failed: $(tail -n 3 "$TEMP_DIR/worker.log")"
    field p99_ms <"$TEMP_DIR/latency.json"
}

# Commits the jobs that were added before all the others, while more jobs stream past, and measures how soon they run.
late_commit() {
    local stream start out=$TEMP_DIR/stream.json
    bench drain --leave-traces --jobs 100000000 --feed 2000 --limit "$(size 6 2)s" >"$out" &
    stream=$!
    sleep "$(size 2 0.7)"
    start=$EPOCHREALTIME
    let_go commit
    sql <<'SQL'
do $$ begin
    while exists (select from breakwater.job join late using (id)) loop
        perform pg_sleep(0.005);
        commit;
    end loop;
end $$;
SQL
    note held 'late commit to the end of the last of its jobs' \
        "$(awk "BEGIN { print ($EPOCHREALTIME - $start) * 1000 }")" ms
    wait "$stream" || fail "the drain failed: $(tail -n 3 "$TEMP_DIR/worker.log")"
    # This drain also counted the ends of the late jobs, which it had not added itself.
    [[ $(field lost <"$out") == "-$LATE_JOBS" && $(field repeated <"$out") == 0 ]] ||
        fail "held: jobs of the late commit were lost or ran twice: $(cat "$out")"
}

part_held() {
    local what
    rounds held_once
    for what in "${HELD[@]}"; do
        compare held "enqueue and drain, holding $what" 'enqueue and drain, holding nothing' ''
        [[ $what != 'uncommitted jobs' ]] || continue
        goal held "last tenth to first, holding $what" '>=0.95'
        compare held "pick-up p99 at first, holding $what" "pick-up p99 at last, holding $what" '>=0.95'
    done
    goal held 'late commit to the end of the last of its jobs' '<=1000' 'every turn'
}
