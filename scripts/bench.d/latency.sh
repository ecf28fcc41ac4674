# shellcheck shell=bash disable=SC2154 # scripts/bench sets these variables.
#
# Measures how long a job waits for an idle worker, from its commit to the start of its handler.

latency_of() {
    local what=$1 out=$TEMP_DIR/latency.json name
    shift
    reset
    bench latency "$@" >"$out" || fail "the latency benchmark failed: $(tail -n 3 "$TEMP_DIR/worker.log")"
    for name in p50 p95 p99 max; do note latency "$what, $name" "$(field "${name}_ms" <"$out")" ms; done
}

POLL_MS=200
latency_once() {
    latency_of 'wake-up' --jobs "$(size 1000 60)"
    latency_of "polling each $POLL_MS ms" --no-listen --poll-interval "${POLL_MS}ms" --jobs "$(size 200 25)"
}

part_latency() {
    rounds latency_once
    goal latency 'wake-up, p99' '<=3'
    goal latency "polling each $POLL_MS ms, max" "<=$((POLL_MS + 10))" 'every turn'
}
