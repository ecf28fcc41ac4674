# shellcheck shell=bash disable=SC2154 # scripts/bench sets these variables.
#
# Measures how fast webhooks are delivered to a receiver that answers at once, beside libcurl's multi interface in a bare
# loop, which sends the same requests to the same receiver and keeps nothing; and beside one that sends bodies alone,
# without a job's headers and without a timeout.

DELIVERIES_AT_ONCE=100
# As HTTPHeaders.swift sends them.
DELIVERY_HEADERS=(
    'User-Agent: breakwater' 'Expect:' 'Breakwater-Job-Id: 100000' 'Breakwater-Kind: bench.kind1'
    'Breakwater-Queue: bench.queue1' 'Breakwater-Attempt: 1' 'Breakwater-Max-Attempts: 25'
    'Breakwater-Deadline: 2026-01-01T00:00:00.000Z' 'Idempotency-Key: breakwater-100000'
)

deliver_once() {
    local jobs
    jobs=$(size 100000 10000)
    note deliver 'curl multi, bodies alone' \
        "$(run "$TEMP_DIR/multi" "$receiver_url" "$PAYLOAD" "$jobs" "$DELIVERIES_AT_ONCE")" requests/s
    note deliver 'curl multi, the same requests' \
        "$(run "$TEMP_DIR/multi" "$receiver_url" "$PAYLOAD" "$jobs" "$DELIVERIES_AT_ONCE" "${DELIVERY_HEADERS[@]}")" \
        requests/s
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
    compare deliver 'http, one worker' 'curl multi, the same requests' '>=0.7'
    compare deliver 'http, one worker' 'curl multi, bodies alone' ''
    compare deliver 'http, one worker, signed' 'curl multi, the same requests' ''
}
