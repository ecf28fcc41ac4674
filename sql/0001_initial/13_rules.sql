-- Rules that many statements apply. PostgreSQL inlines each into the statement that calls it, so a call costs nothing,
-- and indexes are used as if the rule were written there. The bodies are parsed here, so a caller's search_path cannot
-- change the meaning of their operators.

-- Whether a circuit is the one that a job's calls belong to, as far as the job's handler says: the circuit that several
-- kinds share, or else the circuit of the job's key ('' for its kind's own).
create function breakwater.is_circuit_of(
    p_circuit_kind text, p_circuit_key text, p_kind text, p_shared_key text, p_key text
) returns boolean
language sql immutable parallel safe
return p_circuit_kind collate "C" = case when p_shared_key is null then p_kind else '*' end
   and p_circuit_key collate "C" = coalesce(p_shared_key, p_key);

-- Whether the calls of a handler's jobs belong to a circuit: a shared circuit, its kind's own, or that of a key.
create function breakwater.is_handler_of(p_kind text, p_shared_key text, p_circuit_kind text, p_circuit_key text)
returns boolean
language sql immutable parallel safe
return case when p_circuit_kind = '*' then p_shared_key collate "C" = p_circuit_key
            else p_kind collate "C" = p_circuit_kind end;

-- Whether a row of breakwater.pause pauses the jobs of a queue and kind.
create function breakwater.is_pause_of(p_scope text, p_name text, p_queue text, p_kind text) returns boolean
language sql immutable parallel safe
return (p_scope = 'kind' and p_name collate "C" = p_kind) or (p_scope = 'queue' and p_name collate "C" = p_queue);

-- Whether a job has run before. A job that waits for its time is retrying if it has, and otherwise scheduled.
create function breakwater.has_run(p_attempt integer, p_errors jsonb) returns boolean
language sql immutable parallel safe
return p_attempt > 0 or p_errors is not null;
