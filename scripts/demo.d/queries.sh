# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # What scripts/demo uses, and what it sets.
#
# How the demo reads the database, and the longer pieces of SQL that it reads it with.

psql() { "$PG_BIN/psql" --no-psqlrc --quiet --set ON_ERROR_STOP=1 --pset pager=off --dbname "$PG_URL" "$@"; }

# read_value QUERY: prints the one row that the query returns, with | between its columns.
read_value() { psql --no-align --tuples-only --command "$1"; }

# holds CONDITION: succeeds if the SQL condition is true.
holds() { [[ $(read_value "select ($1)::text") == true ]]; }

# --- Expressions, to be put into queries

digests_left="(select count(*) from breakwater.job where kind = 'file.digest')"
waiting="(select count(*) from breakwater.job where kind = 'webhook.deliver')"
circuit="(select state from breakwater.circuit where kind = 'webhook.deliver')"
# The attempts that the waiting jobs have spent. The attempt of a run that is under way is not counted yet.
spent="(select coalesce(sum(attempt), 0) from breakwater.job where kind = 'webhook.deliver')"
# The runs that ended while the circuit was half-open: those were probes.
probes="(select coalesce(sum(t.succeeded + t.failed), 0) from breakwater.tally t
           join breakwater.circuit_transition c using (kind, key, generation)
          where t.kind = 'webhook.deliver' and c.to_state = 'half_open')"
# The probes that are under way.
probes_at_once="(select count(*) from breakwater.probe where kind = 'webhook.deliver')"
# The deliveries under way that are no probes.
running="(select count(*) from breakwater.held h join breakwater.job j on j.id = h.job
           where j.kind = 'webhook.deliver'
             and not exists (select from breakwater.probe p where p.job = j.id and p.lease = h.lease))"
# How often probes failed, so that the circuit opened again.
reopenings="(select count(*) from breakwater.circuit_transition
              where kind = 'webhook.deliver' and from_state = 'half_open' and to_state = 'open')"
# The most probes that one half-open circuit let through before it opened again.
most_probes="(select coalesce(max(t.calls), 0)
                from (select sum(t.succeeded + t.failed) as calls
                        from breakwater.tally t join breakwater.circuit_transition c using (kind, key, generation)
                       where t.kind = 'webhook.deliver' and c.to_state = 'half_open'
                         and exists (select from breakwater.circuit_transition n
                                      where n.kind = c.kind and n.key = c.key and n.generation = c.generation + 1
                                        and n.to_state = 'open')
                       group by t.generation) t)"

# --- Whole queries

runs_by_worker="select w.name, w.alive, w.leads,
       count(j) filter (where j.kind = 'webhook.deliver') as \"running webhook.deliver\",
       count(j) filter (where j.kind = 'file.digest') as \"running file.digest\"
  from breakwater.worker_status w left join (breakwater.held h join breakwater.job j on j.id = h.job) on h.worker = w.id
 group by w.name, w.alive, w.leads order by w.name"

# A sentence about the first failure and the opening that followed it.
opening="select format('The first failure came at %s, and the circuit opened %s ms later: %s.' || chr(10)
              || 'Until every worker knew, %s attempts were spent; from here on, none is.',
              to_char(f.at, 'HH24:MI:SS.MS'), round(1000 * extract(epoch from c.at - f.at)), c.reason, $spent)
         from (select at, reason from breakwater.circuit_transition
                where kind = 'webhook.deliver' and to_state = 'open' order by id limit 1) c,
              (select min((e->>'at')::timestamptz) as at from breakwater.job, jsonb_array_elements(errors) e
                where kind = 'webhook.deliver') f"

tally_since_opening="select w.name,
            coalesce(sum(t.failed) filter (where t.kind = 'webhook.deliver'), 0) as \"failed probes\",
            coalesce(sum(t.succeeded) filter (where t.kind = 'webhook.deliver'), 0) as \"deliveries\",
            coalesce(sum(t.succeeded) filter (where t.kind = 'file.digest'), 0) as \"digests\"
       from breakwater.worker w
       left join breakwater.tally t on t.worker = w.id
        and t.slot > (select min(at) from breakwater.circuit_transition where kind = 'webhook.deliver')
        and (t.kind = 'file.digest' or t.generation > 1)
      group by w.name order by w.name"
