-- Sequences that are behind their rows, for example after a restore of only the data, or an upgrade by logical
-- replication, which does not include sequences. New numbers would repeat those of existing rows.

-- The highest numbers of rows that are above their sequences; null if none is. Without `p_thorough` it reads only
-- indexes and small tables; with it, it reads all jobs as well. Numbers so high that a user must have written them by
-- hand are left out, because a sequence that continued after those would soon reach its end.
--
-- It searches only above the last number of each sequence, and not for the greatest number, because there may be any
-- number of dead rows at the end of an index.
create function breakwater.numbers_beyond(p_thorough boolean)
returns table (sequence regclass, stood_at bigint, highest bigint)
language plpgsql stable set search_path = pg_catalog, pg_temp
set jit = off set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off
as $$
declare
    c_most constant bigint := 4611686018427387904;
    v_job        bigint := breakwater.last_number('job_id_seq');
    v_worker     bigint := breakwater.last_number('worker_id_seq');
    v_lane       bigint := breakwater.last_number('lane_id_seq');
    v_lease      bigint := breakwater.last_number('lease');
    v_position   bigint := breakwater.last_number('job_position');
    v_horizon    bigint := breakwater.last_number('horizon_id_seq');
    v_transition bigint := breakwater.last_number('circuit_transition_id_seq');
    v_incident   bigint := breakwater.last_number('circuit_incident_id_seq');
    v_call       bigint := breakwater.last_number('recent_call_id_seq');
    v_result     bigint := breakwater.last_number('probe_result_id_seq');
    v_failure    bigint := breakwater.last_number('failure_id_seq');
    v_audit      bigint := breakwater.last_number('audit_id_seq');
    v_subscriber bigint := breakwater.last_number('tail_subscriber_id');
    v_outcome    bigint := breakwater.last_number('outcome_id');
    v_rule       bigint := breakwater.last_number('flow_rule_id_seq');
    v_number     bigint := breakwater.last_number('rule_claim_number');
    v_notice     bigint := breakwater.last_number('endpoint_notice_id_seq');
    v_freed      bigint := breakwater.last_number('freed_key_id_seq');
    v_pause      bigint := breakwater.last_number('rate_pause_id_seq');
    v_turn       bigint := breakwater.last_number('share_turn_id_seq');
    v_time       bigint := breakwater.last_number('call_time_id_seq');
    v_jobs       record;
begin
    select null::bigint as highest_lease, null::bigint as highest_position into v_jobs;
    if p_thorough then
        select * into v_jobs from breakwater.highest_in_jobs(v_lease, v_position, c_most);
    end if;
    return query values
        ('breakwater.job_id_seq'::regclass, v_job, greatest(
            (select max(r.id) from breakwater.job r where r.id > v_job and r.id < c_most),
            (select max(r.id) from breakwater.dead_letter r where r.id > v_job and r.id < c_most),
            (select max(r.id) from breakwater.result r where r.id > v_job and r.id < c_most))),
        ('breakwater.worker_id_seq'::regclass, v_worker, greatest(
            (select max(r.id) from breakwater.worker r where r.id > v_worker and r.id < c_most),
            (select max(r.worker) from breakwater.lost_worker r where r.worker > v_worker and r.worker < c_most),
            (select max(r.worker) from breakwater.claim r where r.worker > v_worker and r.worker < c_most))),
        ('breakwater.lane_id_seq'::regclass, v_lane, greatest(
            (select max(r.id) from breakwater.lane r where r.id > v_lane and r.id < c_most),
            (select max(r.lane) from breakwater.claim r where r.lane > v_lane and r.lane < c_most))),
        ('breakwater.lease'::regclass, v_lease, greatest(
            (select max(r.lease) from breakwater.claim r where r.lease > v_lease and r.lease < c_most),
            (select max(r.lease) from breakwater.probe r where r.lease > v_lease and r.lease < c_most),
            v_jobs.highest_lease)),
        ('breakwater.job_position'::regclass, v_position, greatest(
            (select max(r.last) from breakwater.claim r where r.last > v_position and r.last < c_most),
            (select max(r.floor) from breakwater.lane r where r.floor > v_position and r.floor < c_most),
            -- Each second, the leader records the highest position drawn.
            (select max(r.highest) from breakwater.horizon r where r.highest > v_position and r.highest < c_most),
            v_jobs.highest_position)),
        ('breakwater.horizon_id_seq'::regclass, v_horizon,
         (select max(r.id) from breakwater.horizon r where r.id > v_horizon)),
        ('breakwater.circuit_transition_id_seq'::regclass, v_transition,
         (select max(r.id) from breakwater.circuit_transition r where r.id > v_transition)),
        ('breakwater.circuit_incident_id_seq'::regclass, v_incident,
         (select max(r.id) from breakwater.circuit_incident r where r.id > v_incident)),
        -- The index of this table begins with the kind, so it is searched only if `p_thorough`.
        ('breakwater.recent_call_id_seq'::regclass, v_call,
         (select max(r.id) from breakwater.recent_call r where p_thorough and r.id > v_call)),
        ('breakwater.probe_result_id_seq'::regclass, v_result,
         (select max(r.id) from breakwater.probe_result r where r.id > v_result)),
        ('breakwater.failure_id_seq'::regclass, v_failure,
         (select max(r.id) from breakwater.failure r where r.id > v_failure)),
        ('breakwater.audit_id_seq'::regclass, v_audit, (select max(r.id) from breakwater.audit r where r.id > v_audit)),
        ('breakwater.tail_subscriber_id'::regclass, v_subscriber,
         (select max(r.id) from breakwater.tail_subscriber r where r.id > v_subscriber)),
        ('breakwater.outcome_id'::regclass, v_outcome,
         (select max(r.id) from breakwater.outcome r where r.id > v_outcome)),
        ('breakwater.flow_rule_id_seq'::regclass, v_rule, (select max(r.id) from breakwater.flow_rule r where r.id > v_rule)),
        ('breakwater.rule_claim_number'::regclass, v_number, greatest(
            (select max(r.number) from breakwater.rule_claim r where r.number > v_number),
            (select max(r.number) from breakwater.adaptive_step r where r.number > v_number),
            -- The index of this table begins with the rule.
            (select max(r.number) from breakwater.key_clock r where p_thorough and r.number > v_number))),
        ('breakwater.endpoint_notice_id_seq'::regclass, v_notice,
         (select max(r.id) from breakwater.endpoint_notice r where r.id > v_notice)),
        ('breakwater.freed_key_id_seq'::regclass, v_freed,
         (select max(r.id) from breakwater.freed_key r where r.id > v_freed)),
        ('breakwater.call_time_id_seq'::regclass, v_time,
         (select max(r.id) from breakwater.call_time r where r.id > v_time)),
        ('breakwater.rate_pause_id_seq'::regclass, v_pause,
         (select max(r.id) from breakwater.rate_pause r where r.id > v_pause)),
        ('breakwater.share_turn_id_seq'::regclass, v_turn,
         (select max(r.id) from breakwater.share_turn r where p_thorough and r.id > v_turn));
end
$$;

-- The last number that a sequence has given; 0: none.
create function breakwater.last_number(p_sequence text) returns bigint
language sql set search_path = pg_catalog, pg_temp
as $$ select coalesce(pg_sequence_last_value(format('breakwater.%I', p_sequence)::regclass), 0) $$;

-- Reads all jobs from one end to the other. Returns their highest lease and position above the given ones and below
-- p_most.
create function breakwater.highest_in_jobs(
    p_lease bigint, p_position bigint, p_most bigint, out highest_lease bigint, out highest_position bigint
)
language sql stable set search_path = pg_catalog, pg_temp set enable_seqscan = on set jit = off
as $$
    select max(j.lease) filter (where j.lease > p_lease and j.lease < p_most),
           max(j.position) filter (where j.position > p_position and j.position < p_most)
      from breakwater.job j
$$;

-- Advances each sequence that is behind its rows. It searches thoroughly only if `p_thorough`, or if a quick search
-- finds such a sequence, because sequences fall behind together. Returns those that it advanced.
--
-- Locks: if there is something to do, the row of the schema's version, so that only one session does this at a time.
-- Otherwise a sequence that another session has just advanced and drawn from would be set back.
create function breakwater.repair_sequences(p_thorough boolean default false)
returns table (sequence text, stood_at bigint, goes_on_after bigint)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_behind record;
begin
    if not p_thorough and not exists (select from breakwater.numbers_beyond(false) n where n.highest is not null) then
        return;
    end if;
    perform from breakwater.schema_version v for update;
    for v_behind in
        select n.sequence as seq, n.stood_at, n.highest from breakwater.numbers_beyond(true) n where n.highest is not null
    loop
        -- Other sessions may draw from it at this moment. Drawing numbers here cannot set it back.
        if v_behind.highest - v_behind.stood_at <= 1000 then
            perform nextval(v_behind.seq) from generate_series(v_behind.stood_at + 1, v_behind.highest);
        else
            perform setval(v_behind.seq, v_behind.highest);
        end if;
        sequence := v_behind.seq::text;
        stood_at := v_behind.stood_at;
        goes_on_after := v_behind.highest;
        return next;
    end loop;
end
$$;

-- Repairs sequences, and reports this in the log of the calling worker. While another session has one of the tables
-- locked, the repair is postponed, so that no worker's start waits for it.
create function breakwater.check_sequences() returns void
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '500ms'
as $$
declare
    v_repair record;
begin
    for v_repair in select * from breakwater.repair_sequences() loop
        raise warning 'the sequence % stood at %, behind its rows: it goes on after %', v_repair.sequence,
            v_repair.stood_at, v_repair.goes_on_after
            using hint = 'This happens when data is restored or replicated without its sequences.';
    end loop;
exception when lock_not_available then
    null;
end
$$;

-- A new id for a job whose own id another row has. No job, dead letter or result has the new id.
create function breakwater.new_job_number() returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
    perform breakwater.repair_sequences();
    return nextval('breakwater.job_id_seq');
end
$$;
