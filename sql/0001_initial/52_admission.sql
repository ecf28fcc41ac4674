-- Admission: how many jobs a circuit lets through that is not closed or still ramping up, or from which a worker is
-- suspended.

-- How many jobs a worker may claim through such a circuit, under which generation, and whether as probes. Makes an open
-- circuit half-open when its open time has elapsed.
--
-- Half-open: as many as there are free probe leases in the fleet. Just closed: a share of the worker's concurrency that
-- grows from a tenth to all of it over the ramp, less the jobs that the worker runs already. Suspended: none, and then
-- one at a time.
--
-- Locks the circuit's row, unless it is closed. If another session has locked it, no job is admitted this time.
create function breakwater.admit(
    p_kind text, p_key text, p_worker bigint, p_wanted integer, p_room integer, p_concurrency integer,
    out permits integer, out generation bigint, out is_probe boolean
)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_circuit    breakwater.circuit;
    v_policy     breakwater.handler;
    v_suspension breakwater.suspension;
    v_running    integer := greatest(0, p_concurrency - p_room);
begin
    permits := 0;
    is_probe := false;
    select * into v_suspension from breakwater.suspension s
     where s.kind = p_kind collate "C" and s.key = p_key collate "C" and s.worker = p_worker
       and not s.is_local;
    if found and v_suspension.until > breakwater.clock() then
        return;
    end if;

    select * into v_circuit from breakwater.circuit c
     where c.kind = p_kind collate "C" and c.key = p_key collate "C" and c.state = 'closed';
    if not found then
        select * into v_circuit from breakwater.circuit c
         where c.kind = p_kind collate "C" and c.key = p_key collate "C"
           for update skip locked;
        if not found then
            return;
        end if;
    end if;
    v_policy := breakwater.policy_of(p_kind, p_key);
    if v_circuit.state = 'open' and v_circuit.override is null and v_circuit.retry_at <= breakwater.clock() then
        perform breakwater.transition(p_kind, p_key, 'half_open', 'its open time is over', null, p_worker, null);
        v_circuit.state := 'half_open';
        v_circuit.generation := v_circuit.generation + 1;
    end if;

    generation := v_circuit.generation;
    if v_circuit.state = 'half_open' then
        is_probe := true;
        permits := greatest(0, least(p_wanted, coalesce(v_policy.probes, 1) - (
            select count(*)::integer from breakwater.probe p
             where p.kind = p_kind collate "C" and p.key = p_key collate "C"
               and p.expires_at > breakwater.clock())));
    elsif v_circuit.state = 'closed' then
        permits := p_wanted;
        if v_circuit.ramp_until > breakwater.clock() then
            -- The division comes last, so that no rounding adds one.
            permits := least(permits, ceil(greatest(p_concurrency * 0.1, p_concurrency
                * extract(epoch from v_circuit.ramp - (v_circuit.ramp_until - breakwater.clock()))
                / nullif(extract(epoch from v_circuit.ramp), 0)))::integer - v_running);
        end if;
        if v_suspension.worker is not null then
            permits := least(permits, 1 - breakwater.holds_jobs(p_worker, p_kind, p_key)::integer);
        end if;
        permits := greatest(permits, 0);
    end if;
end
$$;
