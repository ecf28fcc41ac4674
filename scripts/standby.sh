# shellcheck shell=bash
#
# A standby beside the private Postgres of common.sh, which must be sourced first:
#
#     start_standby DIR     a standby that streams from start_postgres's server; sets STANDBY_PORT and STANDBY_DIR
#     make_synchronous      lets each commit wait until the standby has applied it
#     kill_primary          kill the server as if its machine had lost its power
#     promote_standby       make the standby the primary, and wait until it is
#     sql PORT TEXT...      run SQL on the server on a port, as its superuser
#     is PORT TEXT          whether a query answers true
#     wait_until SECONDS WHAT COMMAND...

sql() {
    local port=$1
    shift
    psql -XAtq -v ON_ERROR_STOP=1 "postgresql://postgres@127.0.0.1:$port/postgres?connect_timeout=10" -c "$*"
}

wait_until() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || fail "waited in vain: $what"
        sleep 0.1
    done
}

is() { [[ $(sql "$1" "$2") == t ]]; }

start_standby() {
    local attempt
    STANDBY_DIR=$1
    mkdir "$STANDBY_DIR"
    ((EUID != 0)) || chown "$(as_postgres id -un):" "$STANDBY_DIR"
    as_postgres "$PG_BIN/pg_basebackup" --host=127.0.0.1 --port="$PG_PORT" --username=postgres --no-sync \
        --checkpoint=fast --wal-method=stream --write-recovery-conf --pgdata="$STANDBY_DIR/data"
    at_exit stop_postgres immediate "$STANDBY_DIR"
    for attempt in 1 2 3 4 5; do
        STANDBY_PORT=$(free_port)
        control_server start "$STANDBY_DIR" "$STANDBY_PORT" && break
        ((attempt < 5)) || fail "the standby did not start:"$'\n'"$(tail -n 20 "$STANDBY_DIR/log")"
    done
    wait_until 30 "the standby streams" is "$PG_PORT" "select count(*) = 1 from pg_stat_replication where state = 'streaming'"
}

make_synchronous() {
    sql "$PG_PORT" "alter system set synchronous_standby_names = '*'"
    sql "$PG_PORT" "alter system set synchronous_commit = remote_apply"
    sql "$PG_PORT" "select pg_reload_conf()" >/dev/null
    wait_until 30 "replication is synchronous" is "$PG_PORT" "select sync_state = 'sync' from pg_stat_replication"
}

kill_primary() {
    local postmaster
    postmaster=$(head -n 1 "$PG_DIR/data/postmaster.pid")
    # shellcheck disable=SC2046 # One process id a word.
    kill -KILL "$postmaster" $(cat "/proc/$postmaster/task/$postmaster/children")
    rm -f "$PG_DIR/data/postmaster.pid"
}

promote_standby() {
    sql "$STANDBY_PORT" "select pg_promote(wait => false)" >/dev/null
    wait_until 30 "the standby is promoted" is "$STANDBY_PORT" "select not pg_is_in_recovery()"
}
