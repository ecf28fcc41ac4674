-- The tables of handlers and their circuits.

-- The settings of each kind's handler, as registered by the worker that started last. One policy applies to the whole
-- fleet. A threshold that is null is off.
create table breakwater.handler (
    kind                 text collate "C" primary key,
    timeout              interval not null,
    max_attempts         integer not null,
    -- Jobs older than this are not run again.
    max_age              interval,
    -- Retries as a share of first attempts.
    retry_budget         double precision,
    keep_results         interval not null,
    circuit_enabled      boolean not null,
    failure_rate         double precision,
    slow_rate            double precision,
    -- One of these two is the window.
    circuit_window       interval,
    window_calls         integer,
    minimum_calls        integer not null,
    consecutive_failures integer,
    open_for             interval not null,
    open_factor          double precision not null,
    open_cap             interval not null,
    half_open_for        interval,
    probes               integer not null,
    successes_to_close   integer not null,
    ramp                 interval not null,
    suspends_workers     boolean not null,
    -- The circuit that its calls belong to: one shared by several kinds, or one for each value at a path of the
    -- payload. If both are null, it is the kind's own circuit.
    shared_key           text collate "C",
    key_path             text[],
    fallback             text not null check (fallback in ('hold', 'dead_letter', 'succeed', 'reroute')),
    -- For succeed: JSON text. For reroute: the kind.
    fallback_result      text,
    fallback_kind        text collate "C",
    updated_at           timestamptz not null default now(),
    -- The limits that the kind's configuration names, and the rules that apply to the kind, in the order in which
    -- claims check them (see breakwater.refresh_rules). null: none.
    limits               text[] collate "C",
    rules                bigint[],
    -- Whether jobs that end are written to breakwater.finished_job; null: they are not. How long they are kept; if the
    -- history was turned off, this is how long what was written before is still kept. Whether the payload is written,
    -- and the path at which it says whom or what the job is for; null: it is not, or there is no such path.
    writes_history       boolean,
    history_keep         interval,
    history_payload      boolean,
    history_key          text[],
    -- An invalid result is refused here, because a fallback that fails would undo the fallbacks of all kinds.
    constraint fallback_result_is_json
        check (case when fallback = 'succeed' then coalesce(fallback_result::jsonb is not null, false) else true end),
    constraint fallback_kind_is_1_to_200_bytes
        check (fallback <> 'reroute' or coalesce(octet_length(fallback_kind) between 1 and 200, false)),
    constraint kind_has_no_control_characters
        check (not breakwater.has_control_characters(kind) and not breakwater.has_control_characters(fallback_kind))
);

-- Each settle checks whether any kind writes its history, so this is an index that is nearly always empty.
create index handler_with_history on breakwater.handler (kind) where writes_history;

-- The circuit breakers. A kind's own circuit has the key ''; a dependency of a kind has its key; a circuit that several
-- kinds share has the kind '*' and their shared key.
create table breakwater.circuit (
    kind            text collate "C" not null,
    key             text collate "C" not null default '',
    -- For a key from the payload: the path that it came from. If the handler now uses another path, the circuit is
    -- obsolete.
    key_path        text[],
    state           text not null default 'closed' check (state in ('closed', 'open', 'half_open')),
    -- Every transition increases the generation. Results of an earlier generation change no state.
    generation      bigint not null default 1,
    since           timestamptz not null default now(),
    -- The reason for the state.
    reason          text not null default 'new',
    -- When an open circuit may be probed; null while an operator holds it open.
    retry_at        timestamptz,
    -- How often the circuit has opened again since it last stayed closed for as long as it had been open. The open time
    -- grows with this number.
    reopened        integer not null default 0,
    -- When the circuit opened, if it is not closed and opened by its own rules.
    opened_at       timestamptz,
    -- How long the circuit was open before it last closed. If an outage comes back soon, the times are added up.
    was_open_for    interval not null default '0',
    -- Whether the first round of probes since the opening has ended. If that round closes the circuit, the opening was
    -- a false alarm.
    is_checked      boolean not null default false,
    -- When a round of probes last failed, which proves that the dependency was down until then.
    was_down_at     timestamptz,
    -- How many false alarms followed each other soon; null: the last opening was no false alarm. The ramp grows with
    -- this number.
    false_alarms    integer,
    -- While half-open: the results of this round's probes, and how long the dependency asked to wait.
    successes       integer not null default 0,
    failures        integer not null default 0,
    slow            integer not null default 0,
    asked_for       double precision,
    -- While closed: when the ramp ends and all jobs are admitted again, and how long the whole ramp takes.
    ramp_until      timestamptz,
    ramp            interval,
    -- An operator's override of the breaker, who set it, and until when (null: until an operator resets it). open and
    -- closed hold that state; disabled counts nothing; metrics_only counts, and records what the circuit would have
    -- done.
    override        text check (override in ('open', 'closed', 'disabled', 'metrics_only')),
    override_actor  text,
    override_until  timestamptz,
    -- Under metrics_only: whether the history already says, in this generation, that the circuit would have opened.
    announced       boolean not null default false,
    primary key (kind, key)
) with (fillfactor = 50);

-- Every transition of every circuit, once each.
create table breakwater.circuit_transition (
    id         bigint generated always as identity primary key,
    kind       text collate "C" not null,
    key        text collate "C" not null,
    generation bigint not null,
    from_state text not null,
    to_state   text not null,
    reason     text not null,
    -- The person or program that requested the transition; null when the breaker decided.
    actor      text,
    -- The worker whose result or claim caused it, if one did.
    worker     bigint,
    -- The evidence for it (see 57_evidence.sql); null if an operator or a timeout caused it.
    evidence   jsonb,
    at         timestamptz not null
);
create index circuit_transition_by_kind on breakwater.circuit_transition (kind, key, generation);

-- Incidents: each is the time from a circuit's first opening to its close (see 58_incidents.sql). A row is written only
-- under the lock of its circuit's row.
create table breakwater.circuit_incident (
    id           bigint generated always as identity primary key,
    kind         text collate "C" not null,
    key          text collate "C" not null,
    began_at     timestamptz not null,
    -- infinity: it has not ended.
    ended_at     timestamptz not null default 'infinity',
    -- How often the circuit opened, when it last opened, and how often its first probes showed a false alarm.
    openings     integer not null default 1,
    opened_at    timestamptz not null,
    false_alarms integer not null default 0,
    -- When it became certain that an opening is no false alarm; null: not yet.
    confirmed_at timestamptz,
    -- How long the circuit was not closed, summed over all openings that have ended.
    time_open    interval not null default '0',
    -- Why the circuit first opened, who opened it (null: the breaker did), what failed then, and why it last closed.
    cause        text not null,
    actor        text,
    evidence     jsonb,
    end_reason   text
);
create index circuit_incident_by_circuit on breakwater.circuit_incident (kind, key, id);
create index circuit_incident_by_end on breakwater.circuit_incident (ended_at);

-- What an incident cost, as far as the leader has counted it.
create table breakwater.incident_measure (
    incident         bigint primary key,
    measured_at      timestamptz not null,
    -- The counts include everything that was settled by this time.
    counted_to       timestamptz not null,
    -- How many openings the incident had when it was counted to its end; 0: it has not been counted to its end.
    complete_opening integer not null default 0,
    -- Calls a minute in the ten minutes before it began, and calls since.
    calls_before     double precision not null,
    calls            bigint not null default 0,
    failed           bigint not null default 0,
    handed_back      bigint not null default 0,
    dead_letters     bigint not null default 0,
    -- Jobs that waited for the circuit: at the first count, the maximum, and at the last count; and the longest wait of
    -- the oldest of them.
    first_waiting    bigint,
    most_waiting     bigint,
    last_waiting     bigint,
    longest_wait     interval
);

-- The messages about an incident that were sent to the configured `notify:`. No row: none was sent.
create table breakwater.incident_notice (
    incident    bigint primary key,
    -- began or ended: the last message that was delivered or given up; null: none.
    last_sent   text check (last_sent in ('began', 'ended')),
    -- How many openings of the circuit the last message that was tried included.
    openings_sent integer not null default 0,
    -- The number of these messages. It is part of a message's id, so that a receiver recognises a repeated message.
    messages    integer not null default 0,
    -- For the message that is being delivered: when it was first attempted, how many attempts it had, and when the next
    -- may begin.
    first_tried timestamptz,
    tries       integer not null default 0,
    next_try    timestamptz not null
);

-- How calls ended, in slots of one second. One worker writes a row during one second; after that, the row is only read.
-- Every kind is tallied under its own circuit, and under any other circuit that its calls belong to.
create table breakwater.tally (
    kind              text collate "C" not null,
    key               text collate "C" not null default '',
    generation        bigint not null,
    slot              timestamptz not null,
    worker            bigint not null,
    succeeded         integer not null,
    failed            integer not null,
    -- Repeats: failures of jobs that had failed before while others have succeeded since.
    repeats           integer not null default 0,
    -- Slow calls, without the repeats.
    slow              integer not null,
    -- Calls of jobs that had run before.
    retries           integer not null,
    -- Failures other than repeats since this worker's last success in this slot, and when they began.
    trailing_failures integer not null,
    failing_since     timestamptz,
    last_success_at   timestamptz,
    primary key (kind, key, slot, generation, worker)
) with (fillfactor = 50, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_cost_delay = 0);
-- This index finds the newest and the oldest slots of all kinds.
create index tally_by_slot on breakwater.tally (slot);

-- The sums of the tallies of each minute, for charts. A minute without calls has no row.
create table breakwater.rate (
    minute    timestamptz not null,
    kind      text collate "C" not null,
    succeeded bigint not null,
    failed    bigint not null,
    slow      bigint not null,
    -- Jobs that became dead letters.
    died      bigint not null,
    primary key (minute, kind)
);
-- The minute up to which the tallies have been summed.
create table breakwater.rate_horizon (
    only_one boolean primary key default true check (only_one),
    minute   timestamptz not null
);
insert into breakwater.rate_horizon (minute) values (date_trunc('minute', now()));

-- For windows by count: single calls in the order in which they were settled, with a row for each batch. Each call is
-- one letter: s succeeded, f failed; in capitals if it was slow.
create table breakwater.recent_call (
    id         bigint generated always as identity,
    kind       text collate "C" not null,
    key        text collate "C" not null,
    generation bigint not null,
    calls      text not null,
    primary key (kind, key, generation, id)
) with (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);

-- Probe leases: the jobs that half-open circuits let through and that have not been settled yet.
create table breakwater.probe (
    job        bigint primary key,
    lease      bigint not null,
    kind       text collate "C" not null,
    key        text collate "C" not null default '',
    -- The round: the generation of the circuit while it was half-open.
    generation bigint not null,
    expires_at timestamptz not null
);
create index probe_by_circuit on breakwater.probe (kind, key);

-- How probes ended, kept for a day.
create table breakwater.probe_result (
    id         bigint generated always as identity primary key,
    kind       text collate "C" not null,
    key        text collate "C" not null,
    -- The round: the generation of the circuit while it was half-open.
    generation bigint not null,
    job        bigint not null,
    worker     bigint not null,
    -- succeeded, failed, unavailable, throttled, discarded, snoozed or released.
    outcome    text not null,
    name       text,
    message    text,
    -- The attempt was not charged, because the round had not yet decided whether the failure is the job's fault.
    is_pending boolean not null default false,
    at         timestamptz not null
);
create index probe_result_by_circuit on breakwater.probe_result (kind, key, generation);
create index probe_result_pending on breakwater.probe_result (id) where is_pending;

-- Failed calls of the last hours, by circuit and name. Each batch that was settled together has one row for each name.
create table breakwater.failure (
    id         bigint generated always as identity primary key,
    kind       text collate "C" not null,
    key        text collate "C" not null,
    generation bigint not null,
    worker     bigint not null,
    name       text not null,
    message    text,
    -- How many calls failed with this name, and how many of those were repeats (see breakwater.tally).
    failed     integer not null,
    repeats    integer not null,
    -- Some of the jobs, at most ten.
    jobs       bigint[] not null,
    at         timestamptz not null
) with (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
create index failure_by_circuit on breakwater.failure (kind, key, at);
create index failure_by_time on breakwater.failure (at);

-- Workers whose calls failed while those of others succeeded. Until `until` they get no jobs of that circuit; then they
-- get one at a time, until one succeeds. The table also has workers that lack something they need to run jobs of a kind
-- (see 53_suspension.sql).
create table breakwater.suspension (
    kind   text collate "C" not null,
    key    text collate "C" not null,
    worker bigint not null,
    since  timestamptz not null,
    until  timestamptz not null,
    -- How often the worker was suspended without a success in between; 0 while it only waits for the results of other
    -- workers.
    times  integer not null default 1,
    reason text not null,
    -- Whether the worker suspended itself, for all jobs of the kind, with the key ''. No circuit counts or ends it.
    is_local boolean not null default false,
    primary key (kind, key, worker, is_local)
);

-- Test shots: the jobs that run in spite of an open circuit or a pause. A job stays here until a worker claims it, or
-- for a minute.
create table breakwater.test_shot (
    job   bigint primary key,
    actor text not null,
    at    timestamptz not null default clock_timestamp()
);
