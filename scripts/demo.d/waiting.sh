# shellcheck shell=bash
# shellcheck disable=SC2154 # What scripts/demo sets.
#
# How the demo waits for something, until a deadline.

# wait_until WHAT COMMAND...: fails the demo if the command does not succeed in time.
wait_until() {
    local what=$1 end=$((SECONDS + DEADLINE))
    shift
    until "$@"; do
        check_workers
        ((SECONDS < end)) || {
            worker status || true
            tail -n 5 "$DIR"/*.log || true
            fail "waited $DEADLINE seconds for what did not happen: $what"
        }
        sleep 0.3
    done
}

# Succeeds when a third of the deliveries is accepted. On a machine so slow that the digests would be over by then, it
# succeeds sooner.
third_is_delivered() {
    local count
    count=$(count_accepted)
    ((count >= DELIVERIES / 3 || (count >= 200 && SECONDS - enqueued > 30)))
}

# Waits until no job is left, and prints the number of jobs every five seconds. Fails the demo if no job ends within
# the deadline.
wait_until_drained() {
    local next_progress=0 least_left=$((DELIVERIES + DIGESTS + 1)) end_of_drain=$((SECONDS + DEADLINE))
    until queue_is_drained; do
        check_workers
        sleep 0.3
    done
}
queue_is_drained() {
    ((SECONDS < next_progress)) || {
        print_jobs_left
        next_progress=$((SECONDS + 5))
        # On a slow machine the drain may take long: each job that ends starts the deadline again.
        local left
        left=$(read_value 'select count(*) from breakwater.job')
        ((left >= least_left)) || least_left=$left end_of_drain=$((SECONDS + DEADLINE))
        ((SECONDS < end_of_drain)) || fail "nothing moved for $DEADLINE seconds."
    }
    holds 'select count(*) = 0 from breakwater.job'
}
print_jobs_left() {
    read_value "select format('%s deliveries waiting or running, %s digests', $waiting, $digests_left)" | indent
}
