# shellcheck shell=bash disable=SC2154 # scripts/bench sets these variables.
#
# Measures other queues on Postgres, on the same server in the same run. Each has a database of its own, created again
# for each measurement. peers/ has the code: measure.py, and one file for each queue.

PEERS=(breakwater procrastinate pgqueuer awa-pg)
PEER_VENV=.build/bench-peers
# The measures, each with the heading of its column.
PEER_MEASURES=(
    'drain|drain, jobs/s'
    'enqueue, 1 client|enqueue one by one, 1 client, jobs/s'
    'enqueue, 8 clients|8 clients, jobs/s'
    'enqueue, 1000 at once|1000 at once, jobs/s'
    'pick-up p50|pick-up p50, ms'
    'pick-up p99|pick-up p99, ms'
    'held snapshot|enqueue and drain under a held snapshot, jobs/s'
    'held snapshot, last tenth to first|last tenth to first'
)

# measure PEER WHAT OPTIONS...: prints a JSON object on standard output.
measure() { run "$PEER_VENV/bin/python" -B scripts/bench.d/peers/measure.py "$@" 2>>"$TEMP_DIR/peers.log"; }

peer_url() { echo "$PG_BASE/peer_${1//-/_}"; }

# Installs the peers, and leaves in PEERS those that could be installed.
install_peers() {
    local name packages found=()
    python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
        need_packages python3-venv
    if [[ ! -x $PEER_VENV/bin/pip ]]; then run python3 -m venv "$PEER_VENV" >&2; fi
    for name in "${PEERS[@]}"; do
        mapfile -t packages < <(python3 -B scripts/bench.d/peers/measure.py "$name" packages)
        if run "$PEER_VENV/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}" >&2 &&
            measure "$name" describe >"$TEMP_DIR/$name.json"; then
            found+=("$name")
        else
            warn "$name cannot be installed (${packages[*]}): going on without it. $(tail -n 1 "$TEMP_DIR/peers.log")"
        fi
    done
    PEERS=("${found[@]}")
}

describe_peers() {
    local name
    for name in "${PEERS[@]}"; do
        say "$name: $(python3 -c '
import json, sys
peer = json.load(sys.stdin)
print(peer["package"] + " " + peer["version"], *(f"{what}: {how}" for what, how in peer["settings"].items()), sep="\n      ")
' <"$TEMP_DIR/$name.json")"
    done
}

# Makes an empty database with the peer's schema.
make_peer() {
    local name=peer_${1//-/_}
    if [[ $1 == breakwater ]]; then
        reset
        return
    fi
    sql -c "set client_min_messages = warning" -c "drop database if exists $name with (force)" \
        -c "create database $name template ${name}_empty"
}

# peer_note PEER MEASURE FIELD: notes a figure that measure.py or `worker bench` has printed to peer.json.
peer_note() { note peers "$1, $2" "$(field "$3" <"$TEMP_DIR/peer.json")" "$4"; }

# Writes the figures of ours and theirs into peer.json.
peer_drain() {
    make_peer "$1"
    if [[ $1 == breakwater ]]; then
        fill breakwater.job "$PEER_JOBS"
        bench drain --no-fill --leave-traces --jobs "$PEER_JOBS"
    else
        # Slow peers get fewer jobs, which does not change their speed.
        measure "$1" fill --database "$(peer_url "$1")" --jobs "$PEER_JOBS" --limit "$(size 20 3)" >"$TEMP_DIR/filled.json"
        sql --dbname "$(peer_url "$1")" -c 'vacuum (analyze)'
        measure "$1" drain --database "$(peer_url "$1")" --jobs "$(field jobs <"$TEMP_DIR/filled.json")" \
            --limit "$(size 15 3)"
    fi
}

peer_enqueue() {
    local url
    make_peer "$1"
    url=$(peer_url "$1")
    [[ $1 != breakwater ]] || url=$PG_URL
    measure "$1" enqueue --database "$url" --clients "$2" --batch "$3" --seconds "$(size 4 1)"
}

peer_latency() {
    make_peer "$1"
    if [[ $1 == breakwater ]]; then
        bench latency --jobs "$(size 400 50)"
    else
        measure "$1" latency --database "$(peer_url "$1")" --jobs "$(size 400 50)"
    fi
}

peer_held() {
    local jobs limit url code=0
    jobs=$(size 500000 50000) limit=$(size 45 4)
    make_peer "$1"
    url=$(peer_url "$1")
    [[ $1 != breakwater ]] || url=$PG_URL
    hold "$url" 'begin isolation level repeatable read' 'select count(*) from pg_class'
    if [[ $1 == breakwater ]]; then
        bench drain --leave-traces --jobs "$jobs" --feed 2000 --limit "${limit}s" || code=$?
    else
        measure "$1" churn --database "$url" --jobs "$jobs" --backlog 2000 --limit "$limit" || code=$?
    fi
    let_go rollback
    return "$code"
}

# try_peer PEER FUNCTION ARGUMENTS...: succeeds if the function does.
try_peer() {
    local name=$1
    "$2" "$1" "${@:3}" >"$TEMP_DIR/peer.json" || {
        warn "$name: $2 failed: $(cat "$TEMP_DIR/peers.log" "$TEMP_DIR/worker.log" 2>/dev/null | tail -n 1)"
        return 1
    }
    [[ $2 != peer_drain || $(field repeated <"$TEMP_DIR/peer.json") == 0 ]] ||
        warn "$name ran $(field repeated <"$TEMP_DIR/peer.json") jobs again"
}

# This measures all peers by one measure after the other, so that compared figures are near in time.
peers_once() {
    local name
    for name in "${PEERS[@]}"; do
        ! try_peer "$name" peer_drain || peer_note "$name" drain jobs_per_second jobs/s
    done
    for name in "${PEERS[@]}"; do
        ! try_peer "$name" peer_enqueue 1 1 || peer_note "$name" 'enqueue, 1 client' jobs_per_second jobs/s
    done
    for name in "${PEERS[@]}"; do
        ! try_peer "$name" peer_enqueue 8 1 || peer_note "$name" 'enqueue, 8 clients' jobs_per_second jobs/s
    done
    for name in "${PEERS[@]}"; do
        ! try_peer "$name" peer_enqueue 1 1000 || peer_note "$name" 'enqueue, 1000 at once' jobs_per_second jobs/s
    done
    for name in "${PEERS[@]}"; do
        try_peer "$name" peer_latency || continue
        peer_note "$name" 'pick-up p50' p50_ms ms
        peer_note "$name" 'pick-up p99' p99_ms ms
    done
    for name in "${PEERS[@]}"; do
        try_peer "$name" peer_held || continue
        peer_note "$name" 'held snapshot' jobs_per_second jobs/s
        peer_note "$name" 'held snapshot, last tenth to first' last_tenth_to_first ratio
    done
}

part_peers() {
    local name measure
    install_peers
    describe_peers
    PEER_JOBS=$(size 50000 2000)
    for name in "${PEERS[@]}"; do
        [[ $name != breakwater ]] || continue
        sql -c "create database peer_${name//-/_}_empty"
        measure "$name" install --database "$(peer_url "$name")_empty" >/dev/null ||
            fail "$name could not make its schema: $(tail -n 3 "$TEMP_DIR/peers.log")"
    done
    rounds peers_once
    for name in "${PEERS[@]}"; do
        for measure in "${PEER_MEASURES[@]}"; do
            compare peers "$name, ${measure%%|*}" "breakwater, ${measure%%|*}" ''
        done
    done
}

# Prints the columns of the table: each has a figure with its spread.
peer_columns() {
    local measure what columns="split_part(s.what, ', ', 1) as queue"
    for measure in "${PEER_MEASURES[@]}"; do
        what=${measure%%|*}
        columns+=", max(format('%s (%s to %s)', report.show(s.median), report.show(s.lowest), report.show(s.highest)))
                     filter (where s.what = split_part(s.what, ', ', 1) || ', $what') as \"${measure#*|}\""
    done
    echo "$columns"
}

# Prints the settings of the peers, for the JSON.
peer_settings_sql() {
    local name settings='null'
    for name in "${PEERS[@]}"; do
        [[ -s $TEMP_DIR/$name.json ]] || continue
        [[ $settings != null ]] || settings="'{}'::jsonb"
        # The settings contain no dollar sign.
        settings+=" || jsonb_build_object('$name', \$peer\$$(cat "$TEMP_DIR/$name.json")\$peer\$::jsonb)"
    done
    echo "$settings"
}
