# shellcheck shell=bash disable=SC2154 # scripts/bench sets these variables.
#
# Measures how fast webhooks are delivered to a receiver that answers at once, beside libcurl's multi interface in a bare
# loop, which sends the same bodies to the same receiver and keeps nothing.

DELIVERIES_AT_ONCE=100

deliver_once() {
    local jobs
    jobs=$(size 100000 10000)
    note deliver 'curl multi, a bare loop' \
        "$(run "$TEMP_DIR/multi" "$receiver_url" "$PAYLOAD" "$jobs" "$DELIVERIES_AT_ONCE")" requests/s
    reset
    fill breakwater.job "$jobs"
    drain deliver 'http, one worker' --jobs "$jobs" --http "$receiver_url" --concurrency "$DELIVERIES_AT_ONCE"
    reset
    fill breakwater.job "$jobs"
    drain deliver 'http, one worker, signed' --jobs "$jobs" --http "$receiver_url" --http-signed \
        --concurrency "$DELIVERIES_AT_ONCE"
}

part_deliver() {
    local receiver
    cc -O2 -D_GNU_SOURCE -o "$TEMP_DIR/receiver" scripts/bench.d/receiver.c
    # shellcheck disable=SC2046 # One option a word.
    cc -O2 -o "$TEMP_DIR/multi" scripts/bench.d/multi.c $(pkg-config --cflags --libs libcurl)
    "$TEMP_DIR/receiver" >"$TEMP_DIR/receiver.port" &
    receiver=$!
    until [[ -s $TEMP_DIR/receiver.port ]]; do sleep 0.05; done
    receiver_url=http://127.0.0.1:$(<"$TEMP_DIR/receiver.port")/
    rounds deliver_once
    kill "$receiver"
    wait "$receiver" || true
    compare deliver 'http, one worker' 'curl multi, a bare loop' '>=0.7'
    compare deliver 'http, one worker, signed' 'curl multi, a bare loop' ''
}
