# shellcheck shell=bash
# shellcheck disable=SC2154 # What scripts/demo sets.
#
# What must be true at the end. The checks compare the table demo.sent, the access log and the database.

number=0
failed=0

# check TEXT SQL-CONDITION: prints one numbered check, and counts it.
check() {
    local mark=ok result
    number=$((number + 1))
    result=$(read_value "select ($2)::text") || result=error
    if [[ $result != true ]]; then
        mark="${RED}FAILED${PLAIN}"
        failed=$((failed + 1))
    fi
    printf '%4s. %s: %s\n' "$number" "$mark" "$1"
}

# Sets `dead`, how many dead letters there are, and `dead_well`: how many of them are rejected deliveries with all of
# their history.
count_dead_letters() {
    local rejected_well
    rejected_well="d.reason = 'discarded' and d.payload = s.payload
        and exists (select from jsonb_array_elements(d.errors) e
                     where e->>'class' = 'discarded' and e->>'name' = 'http.422'
                       and e->>'message' like '%the account is closed%'
                       and (e->>'attempt')::int >= 1 and (e->>'worker')::bigint > 0
                       and (e->>'at')::timestamptz <= now())"
    dead_well=$(read_value "select count(*) from demo.sent s join breakwater.dead_letter d using (id)
                             where s.kind = 'webhook.deliver' and s.payload->>'account' = 'closed' and $rejected_well")
    dead=$(read_value 'select count(*) from breakwater.dead_letter')
}

check_outage() {
    local delivering_workers
    delivering_workers=$(read_value "select count(distinct worker) from
        (select * from demo.received order by at limit $delivered_before) r where status = 204")
    check "the outage came part way: $delivered_before of $((DELIVERIES - DELIVERIES / REJECT_EVERY)) deliveries were accepted \
before, by ${delivering_workers} workers" \
        "$delivered_before between 200 and $((DELIVERIES * 2 / 3)) and $delivering_workers = ${#WORKER_NAMES[@]}"
    # When probes end one after the other, the third failure opens the circuit while two more may be running.
    check "while the circuit was not closed, no worker ran a delivery but probes ($samples looks), three at a time at most" \
        "$most_running = 0 and $most_at_once <= 3 and $most_probes <= 5 and $samples >= 10
         and $delivered_in_outage <= $delivered_before + 60"
    check "file.digest carried on meanwhile: $((digests_first - digests_last)) of them done" \
        "$digests_first - $digests_last >= 100"
    check "the outage cost the $waiting_first waiting deliveries no attempt: $spent_first spent when the circuit was open, \
$spent_last when nginx was back; $((probes_last - probes_first)) probes failed in between and got theirs back" \
        "$waiting_first = $waiting_last and $spent_first = $spent_last and $probes_last - $probes_first between 1 and 100"
}

check_jobs() {
    local good arrived twice right_digests
    good=$(read_value "select count(*) from demo.sent where kind = 'webhook.deliver' and payload->>'account' = 'open'")
    arrived=$(read_value "select count(distinct s.id) from demo.sent s join demo.received r on r.job = s.id
                           where s.payload->>'account' = 'open' and r.status between 200 and 299")
    twice=$(read_value "select count(*) from (select job from demo.received where status between 200 and 299
                                               group by job having count(*) > 1) t")
    right_digests=$(read_value "select count(*) from demo.sent s join breakwater.result r using (id, kind)
                                 where kind = 'file.digest' and r.result #>> '{}'
                                       like encode(sha256(convert_to(s.payload::text, 'UTF8')), 'hex') || ' %'")
    check "every accepted delivery arrived at least once: $arrived of $good ($twice more than once)" \
        "$arrived = $good and $good = $((DELIVERIES - DELIVERIES / REJECT_EVERY))"
    check "every rejected one was in breakwater.dead_letter with its history, and no other: $dead_well of $dead" \
        "$dead_well = $((DELIVERIES / REJECT_EVERY)) and $dead = $dead_well"
    check "the redriven dead letter $redriven was delivered, and is a dead letter no more" \
        "(select count(*) from demo.received where job = $redriven and status = 204) >= 1
         and not exists (select from breakwater.dead_letter where id = $redriven)
         and (select count(*) from breakwater.dead_letter) = $((dead - 1))"
    check "every digest is right: $right_digests of $DIGESTS, compared with Postgres's own sha256" \
        "$right_digests = $DIGESTS"
}

check_transitions() {
    check "the circuit opened, was probed, and closed: each transition is written down once" \
        "(select array_agg(to_state order by id) = array_agg(should order by id)
                 and (array_agg(to_state order by id desc))[1] = 'closed'
                 and bool_or(to_state = 'half_open') and count(*) = count(distinct generation)
            from (select *, case when lag(to_state, 1, 'closed') over (order by id) <> 'half_open'
                                 then case lag(to_state, 1, 'closed') over (order by id)
                                           when 'closed' then 'open' else 'half_open' end
                                 else to_state end as should
                    from breakwater.circuit_transition where kind = 'webhook.deliver') t)"
}

check_remains() {
    check "nothing remains in breakwater.job" '(select count(*) = 0 from breakwater.job)'
    if [[ -z $keep ]]; then
        # The newest claim of each lane stays, without jobs and without a worker: the next claim begins where it ended.
        check "the workers ended with code 0 and left no trace: ${codes[*]}" \
            "'${codes[*]}' = '0 0 0' and not exists (select from breakwater.worker)
             and not exists (select from breakwater.claim where worker <> 0 or jobs <> '{}')"
    fi
}
