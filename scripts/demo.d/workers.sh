# shellcheck shell=bash
# shellcheck disable=SC2154 # What scripts/demo sets.
#
# The program `worker`, and the three processes of it that run the jobs.

WORKER_PIDS=()

worker() { "$WORKER" "$@"; }

# Sets `WORKER`: the program that the environment names, or a new build.
find_or_build_worker() {
    if [[ -n ${BREAKWATER_WORKER-} ]]; then
        WORKER=$(realpath -e -- "$BREAKWATER_WORKER") || fail "BREAKWATER_WORKER=$BREAKWATER_WORKER is not there." 69
    else
        need_swift
        step "Building worker in release mode"
        run swift build --configuration release --product worker
        WORKER=$(swift build --configuration release --show-bin-path)/worker
    fi
}

write_worker_configuration() {
    cat >"$DIR/worker.yaml" <<CONFIG
database: $PG_URL
concurrency: 30
handlers:
  webhook.deliver:
    http:
      url: "http://127.0.0.1:$NGINX_PORT/hook"
      headers: { User-Agent: "\${WORKER}" }
    concurrency: 20
    timeout: 30s
    retry: { max_attempts: 10, backoff: exponential, base: 500ms, factor: 2, cap: 5s, jitter: full }
    circuit:
      failure_rate: 50%
      window: 10s
      minimum_calls: 20
      consecutive_failures: 10
      open_for: 2s
      open_factor: 2
      open_cap: 4s
      probes: 3
      successes_to_close: 3
  file.digest:
    exec: { command: ["sha256sum"] }
    concurrency: 4
    timeout: 60s
    keep_results: 1h
CONFIG
}

start_workers() {
    local name
    for name in "${WORKER_NAMES[@]}"; do
        env --default-signal=INT,QUIT "$RUN_MARK" WORKER="$name" setsid "$WORKER" run --config "$DIR/worker.yaml" \
            --name "$name" --log-format text </dev/null >"$DIR/$name.log" 2>&1 &
        WORKER_PIDS+=("$!")
    done
}

# Fails the demo if a worker has ended: as long as the demo runs, none does unless something is wrong.
check_workers() {
    local i
    for i in "${!WORKER_PIDS[@]}"; do
        kill -0 "${WORKER_PIDS[i]}" 2>/dev/null || {
            tail -n 20 "$DIR/${WORKER_NAMES[i]}.log"
            fail "${WORKER_NAMES[i]} ended; above is the end of its log."
        }
    done
}

# Stops the workers with SIGTERM, and sets `codes`: the codes that they ended with.
stop_workers() {
    local i tick code
    codes=()
    kill -TERM "${WORKER_PIDS[@]}"
    for i in "${!WORKER_PIDS[@]}"; do
        for ((tick = 0; tick < DEADLINE * 5; tick++)); do
            kill -0 "${WORKER_PIDS[i]}" 2>/dev/null || break
            sleep 0.2
        done
        kill -KILL "${WORKER_PIDS[i]}" 2>/dev/null || true
        code=0
        wait "${WORKER_PIDS[i]}" || code=$?
        codes+=("$code")
        say "${WORKER_NAMES[i]} ended with code $code"
    done
    WORKER_PIDS=()
}

print_ends_of_logs() {
    say ''
    say "the ends of the workers' logs:"
    tail -n 8 "$DIR"/worker-*.log | indent
}
