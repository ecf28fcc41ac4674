-- The tables of handlers and their circuits.

-- The rules of each kind's handler, as the last worker that started registered them. One policy rules the fleet.
-- A threshold that is null never trips.
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
    -- The window: one of the two.
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
    -- Which circuit its calls belong to: one shared by several kinds, or one for each value at a path of the payload;
    -- the kind's own, where both are null.
    shared_key           text collate "C",
    key_path             text[],
    fallback             text not null check (fallback in ('hold', 'dead_letter', 'succeed', 'reroute')),
    -- For succeed: JSON text. For reroute: the kind.
    fallback_result      text,
    fallback_kind        text collate "C",
    updated_at           timestamptz not null default now(),
    -- Refused here, since a fallback that fails would stop all of the leader's chores.
    constraint fallback_result_is_json
        check (case when fallback = 'succeed' then coalesce(fallback_result::jsonb is not null, false) else true end),
    constraint fallback_kind_is_1_to_200_bytes
        check (fallback <> 'reroute' or coalesce(octet_length(fallback_kind) between 1 and 200, false)),
    constraint kind_has_no_control_characters
        check (not breakwater.has_control_characters(kind) and not breakwater.has_control_characters(fallback_kind))
);

-- The circuit breakers. A kind's own circuit has the key ''; a dependency of a kind has its key; a circuit that several
-- kinds share has the kind '*' and their shared key.
create table breakwater.circuit (
    kind            text collate "C" not null,
    key             text collate "C" not null default '',
    -- For a key of the payload: where it came from. If the handler takes its keys from elsewhere, the circuit is obsolete.
    key_path        text[],
    state           text not null default 'closed' check (state in ('closed', 'open', 'half_open')),
    -- Raised by every transition. Results of an earlier generation change no state.
    generation      bigint not null default 1,
    since           timestamptz not null default now(),
    -- Why it is in this state.
    reason          text not null default 'new',
    -- While open: when probing may begin. null while somebody holds it open.
    retry_at        timestamptz,
    -- How often it opened again, since it was last closed for as long as it had been open; the open time grows with it.
    reopened        integer not null default 0,
    -- While it is not closed, and opened by its own rules: when it did.
    opened_at       timestamptz,
    -- How long it was open before it was last closed; times of an outage that came back soon are added up.
    was_open_for    interval not null default '0',
    -- Whether the first round of probes since it opened is over. If that round closes it, the opening was a false alarm.
    is_checked      boolean not null default false,
    -- When a round of probes last failed: until then it was down for certain.
    was_down_at     timestamptz,
    -- How many false alarms came soon after each other; null: the last opening was none. The ramp grows with them.
    false_alarms    integer,
    -- While half-open: how this round's probes ended, and for how long they asked to be left alone.
    successes       integer not null default 0,
    failures        integer not null default 0,
    slow            integer not null default 0,
    asked_for       double precision,
    -- While closed: when admission ramps up to everything, and how long that takes in all.
    ramp_until      timestamptz,
    ramp            interval,
    -- Taken out of the breaker's hands, by whom, and until when (null: until somebody resets it). open and closed hold
    -- that state; disabled counts nothing; metrics_only counts, and says what it would have done.
    override        text check (override in ('open', 'closed', 'disabled', 'metrics_only')),
    override_actor  text,
    override_until  timestamptz,
    -- Under metrics_only: whether it was said in this generation that it would have opened.
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
    -- The person or program that asked for it, or null when the breaker decided.
    actor      text,
    -- The worker whose result or claim decided it, if one did.
    worker     bigint,
    -- What led to it: see 57_evidence.sql. null: a person or the time did.
    evidence   jsonb,
    at         timestamptz not null
);
create index circuit_transition_by_kind on breakwater.circuit_transition (kind, key, generation);

-- Incidents: each is the time from a circuit's first opening to its close (see 58_incidents.sql). A row is written only under
-- the lock of its circuit's row.
create table breakwater.circuit_incident (
    id           bigint generated always as identity primary key,
    kind         text collate "C" not null,
    key          text collate "C" not null,
    began_at     timestamptz not null,
    -- infinity: it goes on.
    ended_at     timestamptz not null default 'infinity',
    -- How often the circuit opened, when it last did, and how often its first probes showed that nothing was wrong.
    openings     integer not null default 1,
    opened_at    timestamptz not null,
    false_alarms integer not null default 0,
    -- When it became certain that an opening is no false alarm; null: not yet.
    confirmed_at timestamptz,
    -- How long the circuit was not closed, in all openings that are over.
    time_open    interval not null default '0',
    -- Why it opened first, who opened it if somebody did, what failed then, and why it closed last.
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
    -- All that was settled by then is counted.
    counted_to       timestamptz not null,
    -- Which opening's end it is counted to; 0: none, it goes on.
    complete_opening integer not null default 0,
    -- Calls a minute in the ten minutes before it began, and calls since.
    calls_before     double precision not null,
    calls            bigint not null default 0,
    failed           bigint not null default 0,
    handed_back      bigint not null default 0,
    dead_letters     bigint not null default 0,
    -- Jobs behind the circuit: at the first count, at the most, at the last; and how long the oldest had waited, at the most.
    first_waiting    bigint,
    most_waiting     bigint,
    last_waiting     bigint,
    longest_wait     interval
);

-- What was told of an incident to the configured `notify:`. No row: nothing.
create table breakwater.incident_notice (
    incident    bigint primary key,
    -- began or ended: the last message that was delivered or given up; null: none. And of how many openings the last one knew
    -- that was tried.
    told        text check (told in ('began', 'ended')),
    told_of     integer not null default 0,
    -- How many messages that is. It numbers them, so that a receiver knows one that comes twice.
    messages    integer not null default 0,
    -- Of the message that is under way: the first try, how many there were, and when the next one may begin.
    first_tried timestamptz,
    tries       integer not null default 0,
    next_try    timestamptz not null
);

-- What calls came to, in slots of one second: a row is written by one worker for one second, then only read. Every
-- kind is tallied under its own circuit, and under another that its calls belong to.
create table breakwater.tally (
    kind              text collate "C" not null,
    key               text collate "C" not null default '',
    generation        bigint not null,
    slot              timestamptz not null,
    worker            bigint not null,
    succeeded         integer not null,
    failed            integer not null,
    -- Of the failures, those that say nothing new: their jobs had failed before, and others have succeeded since.
    repeats           integer not null default 0,
    -- Of all calls but the repeats, those that were slow.
    slow              integer not null,
    -- Of all calls, those of jobs that had run before.
    retries           integer not null,
    -- Failures but repeats since this worker's last success in this slot, and when they began.
    trailing_failures integer not null,
    failing_since     timestamptz,
    last_success_at   timestamptz,
    primary key (kind, key, slot, generation, worker)
) with (fillfactor = 50, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_cost_delay = 0);
-- The newest and the oldest of all kinds.
create index tally_by_slot on breakwater.tally (slot);

-- What the tallies came to in each minute, for the curves that people look at. Minutes without anything have no row.
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
-- Until when the tallies are summed up.
create table breakwater.rate_horizon (
    only_one boolean primary key default true check (only_one),
    minute   timestamptz not null
);
insert into breakwater.rate_horizon (minute) values (date_trunc('minute', now()));

-- For windows by count: single calls in the order in which they were settled, a batch a row. One letter a call: s
-- succeeded, f failed; in capitals if it was slow.
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
    -- Its attempt was not charged, because the round had not decided yet whether its failure is the job's fault.
    is_pending boolean not null default false,
    at         timestamptz not null
);
create index probe_result_by_circuit on breakwater.probe_result (kind, key, generation);
create index probe_result_pending on breakwater.probe_result (id) where is_pending;

-- Failed calls of the last hours, by circuit and name: a row for each name in what was settled together.
create table breakwater.failure (
    id         bigint generated always as identity primary key,
    kind       text collate "C" not null,
    key        text collate "C" not null,
    generation bigint not null,
    worker     bigint not null,
    name       text not null,
    message    text,
    -- How many calls failed so, and how many of those were repeats (see breakwater.tally).
    failed     integer not null,
    repeats    integer not null,
    -- Some of the jobs, at most ten.
    jobs       bigint[] not null,
    at         timestamptz not null
) with (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
create index failure_by_circuit on breakwater.failure (kind, key, at);
create index failure_by_time on breakwater.failure (at);

-- Workers whose calls failed while those of others succeeded. Until `until` they get no jobs of that circuit; then one at
-- a time, until one succeeds. And workers that lack something they need to run jobs of a kind (see 53_suspension.sql).
create table breakwater.suspension (
    kind   text collate "C" not null,
    key    text collate "C" not null,
    worker bigint not null,
    since  timestamptz not null,
    until  timestamptz not null,
    -- How often it was suspended without a success in between; 0 while it only waits to see how the others fare.
    times  integer not null default 1,
    reason text not null,
    -- Whether the worker suspended itself, for all jobs of the kind, with the key ''. No circuit counts or ends it.
    is_local boolean not null default false,
    primary key (kind, key, worker, is_local)
);
