# shellcheck shell=bash disable=SC2154 # scripts/bench sets these variables.
#
# Runs a steady load for a long time, and records how speed and sizes develop.

run_soak() {
    step "soak: $rate jobs a second for $soak min"
    if [[ $csv ]]; then exec 7>"$csv"; else exec 7>&1; fi
    run "$worker" bench soak --database "$PG_URL" --duration "${soak}m" --rate "$rate" --svg "$svg" >&7
    [[ -z $csv ]] || say "figures: $csv"
    say "drawing: $svg"
}
