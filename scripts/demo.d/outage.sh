# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # What scripts/demo uses, and what it sets.
#
# What the demo watches while nginx is down.

print_row() { printf '    %-8s  %-9s  %10s  %12s  %14s  %11s  %12s\n' "$@"; }

# Prints a row a second until the outage has lasted long enough, and sets what the checks need:
#   waiting_, spent_, probes_, digests_first, and the same with _last   what the queries found first and last
#   samples                                                             how often it looked
#   most_running, most_at_once        the most deliveries that were no probes, and the most probes, of all looks
watch_outage() {
    local end=$((SECONDS + DEADLINE)) next=0
    local state now_waiting now_running now_spent now_probes now_digests at_once reopened
    IFS='|' read -r waiting_first spent_first probes_first digests_first < \
        <(read_value "select $waiting, $spent, $probes, $digests_left")
    most_running=0 most_at_once=0 samples=0
    print_row 'seconds' circuit deliveries 'running, but' 'attempts spent' 'probes' 'digests'
    print_row 'down' '' waiting 'for probes' 'by waiting' 'let through' 'done'
    while true; do
        check_workers
        IFS='|' read -r state now_waiting now_running now_spent now_probes now_digests at_once reopened < <(read_value "
            select $circuit, $waiting, $running, $spent, $probes, $digests_left, $probes_at_once, $reopenings")
        samples=$((samples + 1))
        ((now_running <= most_running)) || most_running=$now_running
        ((at_once <= most_at_once)) || most_at_once=$at_once
        if ((SECONDS >= next)); then
            print_row $((SECONDS - outage_began)) "$state" "$now_waiting" "$now_running" \
                "$now_spent" "$now_probes" "$((DIGESTS - now_digests))"
            next=$((SECONDS + 1))
        fi
        # Long enough to see probes fail twice and 100 digests end.
        ((reopened < 2 || samples < 10 || digests_first - now_digests < 100 || SECONDS - outage_began < 10)) || break
        ((SECONDS < end)) || {
            say "that should have taken a few seconds; the demo goes on after $DEADLINE"
            break
        }
        sleep 0.2
    done
    IFS='|' read -r waiting_last spent_last probes_last digests_last < \
        <(read_value "select $waiting, $spent, $probes, $digests_left")
}
