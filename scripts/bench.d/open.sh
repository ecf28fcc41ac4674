# shellcheck shell=bash disable=SC2154 # scripts/bench sets these variables.
#
# Measures how much jobs that may not run slow down those that may.

open_once() {
    local jobs=$((DRAIN_JOBS / 2))
    local -x PGOPTIONS='-c client_min_messages=warning'
    reset
    fill breakwater.job "$jobs"
    drain open 'two kinds, both closed' --jobs "$jobs" --idle-kinds 1
    reset
    fill breakwater.job "$OPEN_JOBS" bench.idle1
    fill breakwater.job "$jobs"
    open_circuit bench.idle1 ''
    drain open "$OPEN_JOBS jobs of an open kind" --jobs "$jobs" --idle-kinds 1

    reset
    fill breakwater.job "$jobs"
    drain open 'a kind with keys, all closed' --jobs "$jobs" --circuit-key text
    reset
    fill breakwater.job "$PARKED_JOBS" bench.kind1 '{"text": "down"}'
    sql -c "update breakwater.job set run_at = 'infinity', parked = 'down'" -c 'vacuum (analyze) breakwater.job'
    fill breakwater.job "$jobs"
    open_circuit bench.kind1 down
    drain open "$PARKED_JOBS jobs parked behind an open key" --jobs "$jobs" --circuit-key text
}

open_circuit() {
    sql -c "insert into breakwater.circuit (kind, key) values ('$1', '$2')" \
        -c "select breakwater.open_circuit('$1', 'benchmark', key => '$2')"
}

part_open() {
    OPEN_JOBS=$(size 100000 20000) PARKED_JOBS=$(size 1000000 20000)
    rounds open_once
    compare open "$OPEN_JOBS jobs of an open kind" 'two kinds, both closed' '>=0.9'
    compare open "$PARKED_JOBS jobs parked behind an open key" 'a kind with keys, all closed' '>=0.9'
}
