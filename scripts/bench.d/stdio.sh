# shellcheck shell=bash disable=SC2154 # scripts/bench sets these variables.
#
# Measures how fast programs run jobs that do nothing: one process for each job (exec), and long-lived processes (stdio).
# Beside exec, xargs starts the same program as often and does nothing else.

stdio_once() {
    local python="python3 $REPOSITORY/Sources/BreakwaterStdio/Clients/python"
    note stdio 'xargs -P 2 -n 1 /bin/true' "$(xargs_rate)" jobs/s
    reset
    fill breakwater.job "$EXEC_JOBS"
    drain stdio 'exec, /bin/true' --jobs "$EXEC_JOBS" --exec /bin/true
    stdio_drain '4 Python processes, 32 jobs ahead' "$python/tests/noop_handler.py" --stdio-ahead 32
    stdio_drain '4 Python processes, none ahead' "$python/tests/noop_handler.py"
    stdio_drain '4 asyncio processes of 50 jobs' "$python/tests/noop_async_handler.py" --stdio-jobs 50
}

xargs_rate() {
    local start=$EPOCHREALTIME
    seq "$EXEC_JOBS" | xargs -P 2 -n 1 /bin/true
    awk "BEGIN { print $EXEC_JOBS / ($EPOCHREALTIME - $start) }"
}

# stdio_drain WHAT COMMAND OPTIONS...
stdio_drain() {
    local what=$1 command=$2
    shift 2
    reset
    fill breakwater.job "$STDIO_JOBS"
    drain stdio "stdio, $what" --jobs "$STDIO_JOBS" --stdio "$command" --stdio-processes 4 "$@"
}

part_stdio() {
    EXEC_JOBS=$(size 5000 1000) STDIO_JOBS=$(size 200000 20000)
    rounds stdio_once
    compare stdio 'exec, /bin/true' 'xargs -P 2 -n 1 /bin/true' '>=0.8'
    goal stdio 'stdio, 4 Python processes, 32 jobs ahead' '>=20000'
    compare stdio 'stdio, 4 Python processes, 32 jobs ahead' 'exec, /bin/true' ''
    compare stdio 'stdio, 4 Python processes, none ahead' 'exec, /bin/true' ''
    compare stdio 'stdio, 4 asyncio processes of 50 jobs' 'exec, /bin/true' ''
}
