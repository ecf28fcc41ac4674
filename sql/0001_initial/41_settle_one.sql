-- Settling of one run that did not succeed: its class decides what becomes of the job.

-- Settles one run that did not succeed. Returns the job's kind, the number of the counted run, when the job had failed
-- before, and whether it fails alone; or nulls if this worker no longer holds it.
--
-- If a user has cancelled the job, its run ends it, whatever its outcome is, and `is_cancelled` is true.
--
-- If a pending probe fails as unavailable, the failure is not charged yet: its round decides whether it is the job's
-- fault. This happens at most a hundred times for each job, so that a job that always fails ends even if it is always
-- the only one.
create function breakwater.settle_one(
    p_worker bigint, p_id bigint, p_lease bigint, p_class text, p_delay double precision, p_name text,
    p_message text, p_is_pending boolean, out kind text, out attempt integer, out failed_before timestamptz,
    out fails_alone boolean, out is_cancelled boolean
)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_job    breakwater.job;
    v_spent  boolean;
    v_asked  double precision := p_delay;
    v_errors jsonb;
    v_policy breakwater.handler;
begin
    select j.* into v_job from breakwater.job j
     where j.id = p_id and j.lease < p_lease
       and exists (select from breakwater.claim c where c.lease = p_lease and c.worker = p_worker)
       for update;
    if not found then
        return;
    end if;
    kind := v_job.kind;
    attempt := v_job.attempt + 1;
    failed_before := breakwater.last_failure_in(v_job.errors);
    fails_alone := v_job.fails_alone;
    p_is_pending := p_is_pending and p_class = 'unavailable' and v_job.handed_back < 100;
    v_spent := p_class in ('failed', 'discarded', 'unavailable') and not p_is_pending;

    v_errors := v_job.errors;
    if p_name is not null then
        v_errors := breakwater.add_error(v_errors, attempt, p_class, p_name, p_message, p_worker);
    end if;
    is_cancelled := exists (select from breakwater.cancel_request c where c.job = p_id and c.lease = p_lease);
    if is_cancelled then
        perform breakwater.dead_letter_cancelled(p_id, p_lease, p_worker, attempt, v_errors);
        return;
    end if;
    if p_class = 'throttled' and coalesce(p_delay, 0) <= 0 then
        -- The dependency gave no time, or one in the past.
        p_delay := breakwater.repeat_delay(v_errors, 'throttled', 3600);
    elsif p_class = 'unable' then
        -- Another worker may be able to run it, so it waits at most a minute and a half.
        p_delay := breakwater.repeat_delay(v_errors, 'unable', 60);
        perform breakwater.suspend_self(p_worker, v_job.kind, p_message);
    end if;

    select * into v_policy from breakwater.handler h where h.kind = v_job.kind;
    if p_class = 'discarded' then
        perform breakwater.dead_letter_job(p_id, 'discarded', v_errors, p_worker, p_lease);
    elsif v_spent and attempt >= coalesce(v_job.max_attempts, v_policy.max_attempts, breakwater.default_max_attempts()) then
        perform breakwater.dead_letter_job(p_id, 'exhausted', v_errors, p_worker, p_lease);
    elsif v_job.enqueued_at + v_policy.max_age < now() + make_interval(secs => coalesce(p_delay, 0)) then
        perform breakwater.dead_letter_job(p_id, 'expired', v_errors, p_worker, p_lease);
    else
        update breakwater.job j
           set lease = p_lease,
               moved_from = null,
               parked = null,
               rule = null,
               rule_key = null,
               order_key = case when v_policy.rules is not null then breakwater.order_key_of(j.kind, j.payload) end,
               attempt = v_job.attempt + v_spent::integer,
               handed_back = v_job.handed_back + p_is_pending::integer,
               -- A run that ended resets the count. A run that was released proves nothing, so the count stays.
               crashes = case when p_class in ('released', 'unable') then v_job.crashes else 0 end,
               suspect_group = case when p_class in ('released', 'unable') then j.suspect_group end,
               errors = v_errors,
               run_at = case when p_class in ('released', 'unable') and v_job.crashes >= 2 then 'infinity'
                             when p_delay > 0 then now() + make_interval(secs => p_delay) end,
               ready_at = case when p_class = 'released' then j.ready_at else now() end,
               position = nextval('breakwater.job_position')
         where j.id = p_id;
        if p_class = 'throttled' and v_policy.rules is not null then
            perform breakwater.pause_rates(v_job, v_asked);
        end if;
        if exists (select from breakwater.tail_subscriber) then
            perform breakwater.record_run(p_id, p_class, p_worker, attempt, p_name, p_message);
        end if;
        -- A sleeping worker may be waiting for a job that is ready at once.
        if p_delay is null or p_delay <= 0 then
            perform breakwater.wake(array[v_job.kind]);
        end if;
    end if;
end
$$;
