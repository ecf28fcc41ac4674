# shellcheck shell=bash disable=SC2154 # scripts/bench sets these variables.
#
# Measures what limits, ordered keys and fair shares cost.

# rule TYPE SETTINGS: a rule of the kind that is drained, as columns and values of breakwater.flow_rule.
rule() {
    sql -c "insert into breakwater.flow_rule (type, name, source, $2) values ('$1', 'bench.kind1', 'operator', $3)"
}

forget_rules() {
    reset
    sql -c 'truncate breakwater.flow_rule, breakwater.rule_claim, breakwater.key_clock, breakwater.freed_key,
                     breakwater.share_turn, breakwater.halted_key, breakwater.adaptive_step, breakwater.call_time'
}

# fill_keys JOBS KEYS: ready jobs of one lane with random keys.
fill_keys() {
    sql -c "insert into breakwater.job (queue, kind, payload)
            select 'bench.queue1', 'bench.kind1',
                   jsonb_build_object('text', (random() * $2)::integer, 'more', repeat('x', 60))
              from generate_series(1, $1)" -c 'vacuum (analyze) breakwater.job'
}

limits_once() {
    local jobs=$((DRAIN_JOBS / 2)) keyed=$((DRAIN_JOBS / 5))
    local -x PGOPTIONS='-c client_min_messages=warning'
    forget_rules
    fill breakwater.job "$jobs"
    drain limits 'no rule' --jobs "$jobs"

    forget_rules
    rule limit concurrency 100000
    fill breakwater.job "$jobs"
    drain limits 'a limit that does not bind' --jobs "$jobs"

    forget_rules
    rule limit 'rate, burst' '1000000, 1000000'
    fill breakwater.job "$jobs"
    drain limits 'a rate that does not bind' --jobs "$jobs"

    forget_rules
    rule order 'key_path, on_dead' "'{text}', 'continue'"
    fill_keys "$keyed" 10000
    drain limits 'ordered by 10,000 keys' --jobs "$keyed"

    forget_rules
    rule limit 'key_path, concurrency' "'{text}', 3"
    fill_keys "$keyed" 10000
    drain limits 'each of 10,000 keys limited to 3' --jobs "$keyed"

    forget_rules
    rule share key_path "'{text}'"
    fill_keys "$keyed" 10000
    drain limits 'shared by 10,000 tenants' --jobs "$keyed"

    # A key with many jobs waits for its first job, which runs again much later, and the others run.
    forget_rules
    rule order 'key_path, on_dead' "'{text}', 'continue'"
    fill breakwater.job "$HELD_BACK_JOBS" bench.kind1 '{"text": "hot"}'
    sql -c "update breakwater.job set run_at = 'infinity', rule = r.id, rule_key = 'hot', order_key = 'hot'
              from breakwater.flow_rule r" \
        -c "update breakwater.job set run_at = now() + interval '1 day', rule = null, rule_key = null, attempt = 1
             where id = (select min(id) from breakwater.job)" \
        -c 'vacuum (analyze) breakwater.job'
    fill_keys "$keyed" 10000
    drain limits "beside $HELD_BACK_JOBS jobs held back" --jobs "$keyed"

    forget_rules
    rule limit concurrency 100000
    hold "$PG_URL" 'begin isolation level repeatable read' 'select count(*) from pg_class'
    drain limits 'enqueue and drain under a limit, holding a snapshot' --jobs 500000 --feed 5000 --limit "$(size 1m 2s)"
    note limits 'last tenth to first under a limit, holding a snapshot' \
        "$(field last_tenth_to_first <"$TEMP_DIR/drain.json")" ratio
    let_go rollback

    limits_of_rate 5000 1
    limits_of_rate 5000 8
    limits_of_rate 50 8
    forget_rules
}

# limits_of_rate RATE WORKERS: how much of a rate is reached.
limits_of_rate() {
    local seconds reached
    seconds=$(size 20 3)
    forget_rules
    rule limit 'rate, burst' "$1, $((1 + $1 / 10))"
    fill breakwater.job "$(($1 * seconds))"
    drain limits "a rate of $1/s, workers: $2" --jobs "$(($1 * seconds))" --processes "$2"
    reached=$(awk "BEGIN { print $(field jobs_per_second <"$TEMP_DIR/drain.json") / $1 }")
    note limits "of a rate of $1/s, workers: $2" "$reached" ratio
}

part_limits() {
    HELD_BACK_JOBS=$(size 1000000 20000)
    rounds limits_once
    compare limits 'a limit that does not bind' 'no rule' '>=0.9'
    compare limits 'a rate that does not bind' 'no rule' '>=0.9'
    compare limits "beside $HELD_BACK_JOBS jobs held back" 'ordered by 10,000 keys' '>=0.9'
    goal limits 'last tenth to first under a limit, holding a snapshot' '>=0.95'
    goal limits 'of a rate of 5000/s, workers: 1' '>=0.97'
    goal limits 'of a rate of 5000/s, workers: 8' '>=0.97'
    goal limits 'of a rate of 50/s, workers: 8' '>=0.97'
    goal limits 'ordered by 10,000 keys' '>=20000'
    goal limits 'each of 10,000 keys limited to 3' '>=20000'
    goal limits 'shared by 10,000 tenants' '>=20000'
}
