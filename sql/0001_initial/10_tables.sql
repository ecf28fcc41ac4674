-- The tables. All objects of Breakwater are in the schema `breakwater`.
--
-- Breakwater's own SQLSTATEs: BW001 is the notice of a circuit's transition, BW002 that of a worker's suspension. BW003
-- and BW004 are caught by the functions that raise them. BW005 is the notice that a lost worker's jobs were released.
-- BW006 says why the function of a handler cannot be called.

create schema breakwater;

-- The time that circuits use: the database's clock. A test may set `breakwater.clock` to another time.
create function breakwater.clock() returns timestamptz
language sql stable
as $$ select coalesce(nullif(current_setting('breakwater.clock', true), '')::timestamptz, now()) $$;

-- Whether a name contains a character that a terminal might act on, or that makes the name look different from what it
-- is: C0, DEL, C1, line separators, and invisible characters that change the direction of text or join it. No
-- configuration can name such a kind or queue. The function runs with the rights and the search path of the session
-- that inserts, so every name in it is qualified with its schema.
create function breakwater.has_control_characters(p_name text) returns boolean
language sql immutable parallel safe
as $$
    select p_name operator(pg_catalog.~)
           E'[\\x01-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb]' collate pg_catalog."C"
$$;

-- Which migrations have been applied. The last file of each migration adds its row.
create table breakwater.schema_version (
    version    integer primary key,
    name       text not null,
    applied_at timestamptz not null default now()
);

-- The order of jobs within a lane. A job that becomes ready again gets a new position, never an old one, so that no
-- position below a lane's cursor is used again.
create sequence breakwater.job_position;

-- One row for each job. Inserting a row here enqueues a job.
--
-- A claim writes nothing here. Claim L holds a job if it lists the job and `lease < L`. Whatever ends that hold deletes
-- the row or sets `lease = L`, so a settle under L changes a job only `where id = … and lease < L`.
create table breakwater.job (
    id           bigint generated always as identity primary key,
    queue        text collate "C" not null default 'default'
                 constraint queue_is_1_to_200_bytes check (octet_length(queue) between 1 and 200),
    kind         text collate "C" not null
                 constraint kind_is_1_to_200_bytes check (octet_length(kind) between 1 and 200),
    priority     smallint not null default 5
                 constraint priority_is_0_to_9 check (priority between 0 and 9),
    position     bigint not null default nextval('breakwater.job_position'),
    -- null: the job is ready now. Otherwise it waits outside the lanes until this time.
    run_at       timestamptz,
    -- When the job last became ready. Waiting times are measured from here.
    ready_at     timestamptz not null default now(),
    enqueued_at  timestamptz not null default now(),
    -- The last claim whose hold of this job ended without ending the job; 0: none.
    lease        bigint not null default 0,
    -- Counted runs that have ended.
    attempt      integer not null default 0,
    -- null: its handler's limit applies.
    max_attempts integer constraint max_attempts_is_positive check (max_attempts > 0),
    -- How many times in a row its worker was lost while it held the job. From 2 on, the job is a suspect and runs apart
    -- from others (see 62_poison.sql).
    crashes      smallint not null default 0,
    -- The largest group of suspects that it may run in: half of those that were held when their worker was lost. null:
    -- a hundred.
    suspect_group smallint,
    -- The number of failed runs as a probe whose attempts were handed back. The backoff grows with them, too.
    handed_back  smallint not null default 0,
    -- The job has failed again while its dependency was healthy, so its failures say nothing about it (see
    -- 50_circuit.sql).
    fails_alone  boolean not null default false,
    payload      jsonb not null default '{}'
                 constraint payload_is_at_most_64_megabytes check (pg_column_size(payload) <= 67108864),
    unique_key   text collate "C"
                 constraint unique_key_is_1_to_500_bytes check (octet_length(unique_key) between 1 and 500),
    -- The W3C trace context of the program that enqueued the job.
    traceparent  text constraint traceparent_is_at_most_200_bytes check (octet_length(traceparent) <= 200),
    tracestate   text constraint tracestate_is_at_most_2000_bytes check (octet_length(tracestate) <= 2000),
    -- The key of the open circuit for which the job is parked (its run_at is infinity then).
    parked       text collate "C",
    -- The rule that holds the job back, and the value of the rule's key (its run_at is infinity then; see
    -- 34_held_back.sql).
    rule         bigint,
    rule_key     text collate "C",
    -- The job's ordered key, once the job was held back or has run. Jobs of the key that were enqueued later wait for
    -- it.
    order_key    text collate "C",
    -- The lane from which an UPDATE by hand took the job; a claim there may still hold it. null: none; 0: one whose row
    -- is gone.
    moved_from   bigint,
    -- One object for each failed run: attempt, class, name, message, at, worker. null: none.
    errors       jsonb,
    -- These constraints are checked at every INSERT, so they are kept cheap and few: each one has a cost of its own.
    constraint names_have_no_control_characters
        check ((queue = 'default' or not breakwater.has_control_characters(queue))
               and not breakwater.has_control_characters(kind)),
    -- These bounds keep every time and count that is computed from these columns in range.
    constraint times_and_counts_are_bounded
        check (ready_at between '1970-01-01Z' and '9999-12-31Z' and enqueued_at between '1970-01-01Z' and '9999-12-31Z'
               and attempt between 0 and 2000000000 and crashes between 0 and 1000 and handed_back between 0 and 1000)
) with (
    autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 100000, autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_analyze_threshold = 50000, autovacuum_analyze_scale_factor = 0,
    autovacuum_vacuum_cost_delay = 0
);

-- While statistics say that the table is nearly empty, every index looks as cheap as the primary key. So a query that
-- looks up jobs by id and also filters by the condition of a partial index writes that condition in a form that the
-- index cannot match: num_nulls(run_at) = 1 in place of run_at is null.

-- The lanes: claims walk along (queue, kind, priority) in the order of position.
create index job_lane on breakwater.job (queue, kind, priority, position) where run_at is null;

-- Future jobs that wait for their time.
create index job_due on breakwater.job (run_at) where run_at is not null and attempt = 0;

-- Retries that wait for their time. The index is by kind, because each kind has its own budget, and retries beyond one
-- kind's budget must not delay other kinds.
create index job_retry on breakwater.job (kind, run_at) where run_at is not null and attempt > 0;

-- Parked jobs, in the order in which they become ready again when the circuit of their key lets them through.
create index job_parked on breakwater.job (kind, parked, queue, priority, position) where parked is not null;

-- Jobs that a rule holds back, in the order in which they run.
create index job_held_back on breakwater.job (kind, rule, rule_key, priority, id) where rule is not null;

-- The jobs of ordered keys that others wait for, in their order.
create index job_ordered on breakwater.job (kind, order_key, id) where order_key is not null;

-- Suspects and accused jobs, which are few even among millions of jobs.
create index job_suspect on breakwater.job (position) where crashes >= 2;

-- At most one live job of a kind for each unique key. Jobs without one are not indexed.
create unique index job_unique_key on breakwater.job (kind, unique_key) where unique_key is not null;

-- Jobs that ended without success, with everything that was known about them.
create table breakwater.dead_letter (
    id           bigint primary key,
    queue        text collate "C" not null,
    kind         text collate "C" not null,
    priority     smallint not null,
    payload      jsonb not null,
    -- exhausted, discarded, expired, poison, circuit_open or cancelled.
    reason       text not null,
    attempt      integer not null,
    max_attempts integer,
    unique_key   text collate "C",
    traceparent  text,
    tracestate   text,
    errors       jsonb not null default '[]',
    enqueued_at  timestamptz not null,
    died_at      timestamptz not null default now(),
    constraint times_and_counts_are_bounded
        check (died_at between '1970-01-01Z' and '9999-12-31Z' and enqueued_at between '1970-01-01Z' and '9999-12-31Z'
               and attempt between 0 and 2000000001)
);
create index dead_letter_by_kind on breakwater.dead_letter (kind, died_at);
create index dead_letter_by_time on breakwater.dead_letter (died_at);
create index dead_letter_by_reason on breakwater.dead_letter (reason, died_at);

-- Results of succeeded jobs, for handlers that keep them and for the fallback that succeeds.
create table breakwater.result (
    id          bigint primary key,
    kind        text collate "C" not null,
    result      jsonb,
    by_fallback boolean not null default false,
    finished_at timestamptz not null default now(),
    expires_at  timestamptz not null
);
create index result_by_expiry on breakwater.result (expires_at);

-- The worker processes that are alive. A row is written by its worker's heartbeats, and when an operator drains the
-- worker.
create table breakwater.worker (
    id          bigint generated always as identity primary key,
    name        text not null,
    version     text not null,
    queues      text[] collate "C" not null,
    kinds       text[] collate "C" not null,
    concurrency integer not null,
    -- A worker that is silent for this long loses its jobs.
    lease       interval not null,
    state       text not null default 'running' check (state in ('running', 'draining')),
    running     integer not null default 0,
    -- Runs that were cancelled but have not ended.
    unresponsive integer not null default 0,
    -- Why an operator drained the worker, which then keeps its heartbeat and claims nothing. null: it is not drained.
    drain_reason text,
    started_at  timestamptz not null default now(),
    beat_at     timestamptz not null default now()
) with (fillfactor = 50);

-- The workers that can take jobs: those that are not draining, and whose last heartbeat is within their lease.
create view breakwater.active_worker as
select * from breakwater.worker w where w.state = 'running' and w.beat_at > now() - w.lease;

-- Workers that were considered lost, and the jobs that they held then.
create table breakwater.lost_worker (
    worker   bigint primary key,
    name     text not null,
    -- Its last heartbeat, and when its jobs were released.
    beat_at  timestamptz not null,
    lost_at  timestamptz not null default now(),
    jobs     bigint[] not null,
    -- Whether the worker registered again. In that case its process had not died, and the loss does not count against
    -- its jobs.
    survived boolean not null default false
);
create index lost_worker_by_time on breakwater.lost_worker (lost_at);

-- Times in which the database received nothing from any worker, because it was down or all workers were. They do not
-- count as a worker's silence.
create table breakwater.absence (
    began_at timestamptz primary key,
    ended_at timestamptz not null
);

-- The lanes that some worker can claim from. A claim locks its lane's row until it commits, so the claims of a lane run
-- one after the other. Only these functions can lock the row, and locking writes no new version of it.
create table breakwater.lane (
    id       bigint generated always as identity,
    queue    text collate "C" not null,
    kind     text collate "C" not null,
    priority smallint not null,
    -- The lane's cursor and floor while the lane has no claim.
    floor    bigint not null default -9223372036854775808,
    primary key (queue, kind, priority)
);
create unique index lane_by_id on breakwater.lane (id);

-- One row for each claim and lane, with the jobs that the claim took. A dead worker's jobs are found through it.
--
-- A lane's newest claim, the one with the greatest `last`, stays until the next claim, because it says where that one
-- starts. Its `jobs` are empty once all of them have ended.
create sequence breakwater.lease;
create table breakwater.claim (
    lease      bigint primary key,
    worker     bigint not null,
    -- null: the claim took its jobs from outside the lanes (suspects, and probes of a key's circuit).
    lane       bigint,
    -- The lane's cursor, above which the next claim searches.
    last       bigint not null,
    -- The lane's floor: no job waits at or below it, and none can appear there.
    floor      bigint not null,
    claimed_at timestamptz not null default now(),
    jobs       bigint[] not null,
    -- The rules with a key that the jobs obey, and the jobs' keys: of all jobs for the first rule, then for the next.
    -- null: no rule had a key, or the keys have to be read from the payloads.
    rules      bigint[],
    keys       text[] collate "C"
) with (
    -- The ids of a thousand jobs fit into one page. Kept there, they cost a third of what they cost elsewhere.
    toast_tuple_target = 8160,
    autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0
);
create index claim_by_worker on breakwater.claim (worker, lease);
create index claim_by_lane on breakwater.claim (lane, last, lease);
-- The list is deleted soon, so compressing it costs more than it saves.
alter table breakwater.claim alter jobs set storage external;

-- What is known about jobs that may still appear at positions drawn long ago. The leader writes it (see 28_late.sql).
-- Rows are only added and deleted, because a row that is updated each second would grow a chain of versions while
-- another session holds a snapshot.
create table breakwater.horizon (
    id      bigint generated always as identity primary key,
    -- No job can appear at or below this position any more.
    proven  bigint not null,
    -- The highest position that was drawn when the row was written, and the transactions that could still add jobs
    -- below it.
    highest bigint not null,
    holders text[] collate "C" not null
);

-- The worker that does the fleet's maintenance (rescue, promotion), and until when. The term fences off a leader that
-- was suspended for too long.
create table breakwater.leader (
    only_one   boolean primary key default true check (only_one),
    worker     bigint not null,
    term       bigint not null,
    expires_at timestamptz not null,
    renewed_at timestamptz not null default now()
) with (fillfactor = 50);

-- The workers that sleep, and the kinds whose inserts should notify them. The rows are lost in a crash, and written
-- again by the next sleep.
--
-- A worker that gets many jobs of a kind polls this hot kind (`polled`) many times a second. So until `until`, an
-- insert of that kind into its queues notifies no sleeping worker.
create unlogged table breakwater.sleeper (
    worker   bigint primary key,
    kinds    text[] collate "C" not null,
    queues   text[] collate "C" not null default '{}',
    polled text[] collate "C" not null default '{}',
    until    timestamptz
) with (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_cost_delay = 0);

-- Whether any worker may be asleep: if so, the sequence has a last value; if not, it has none. Every INSERT checks this
-- first, so the check must cost next to nothing, and only a sequence is shared by all sessions and can be read without
-- a query. It is logged: on a standby that is promoted, an unlogged sequence may not exist, and every INSERT would
-- fail.
create sequence breakwater.anyone_asleep;

-- This table has no rows. It is locked while a worker goes to sleep, and while a session records that no worker sleeps
-- any more.
create table breakwater.sleeper_lock ();

-- Queues and kinds that an operator has paused.
create table breakwater.pause (
    scope  text not null check (scope in ('queue', 'kind')),
    name   text collate "C" not null,
    reason text not null,
    actor  text not null,
    since  timestamptz not null default now(),
    primary key (scope, name)
);

-- Manual actions: who did what, when and why. The functions that perform the actions write this, for every caller.
create table breakwater.audit (
    id      bigint generated always as identity primary key,
    at      timestamptz not null default now(),
    -- The name that the caller gives, or else the session's user.
    actor   text not null,
    action  text not null,
    -- The object of the action: a circuit's name, a queue, a kind, a job, a worker.
    target  text not null,
    reason  text,
    -- How many jobs were moved, until when the action applies, or the previous state.
    details jsonb not null default '{}',
    -- The session's user, who may differ from the actor.
    role    text not null default session_user
);
create index audit_by_time on breakwater.audit (at);
-- Manual actions are few and kept for a year, so each column that is searched has an index.
create index audit_by_target on breakwater.audit (target, id);
create index audit_by_actor on breakwater.audit (actor, id);
create index audit_by_action on breakwater.audit (action, id);

-- Imports: the position of each named input. It is written in the transaction that adds the jobs, so that no line is
-- added twice or left out, however the last attempt ended.
create table breakwater.import (
    -- The login that imports. Each login has its own names, so no client can change another's import.
    owner      text collate "C" not null default session_user,
    name       text collate "C" not null
               constraint import_name_is_1_to_200_bytes check (octet_length(name) between 1 and 200),
    -- How many lines of the input have been added.
    lines      bigint not null,
    -- The hash of the last of those lines, by which another input under the same name is detected.
    last_line  text not null,
    updated_at timestamptz not null default now(),
    primary key (owner, name)
);

-- Clients that subscribe to outcomes (`worker tail`), and when each subscription expires. The rows are lost in a crash,
-- and written again by the next renewal.
--
-- The ids come from logged sequences. The sequence of an unlogged table's identity would be unlogged too, and might not
-- exist on a standby that is promoted.
create sequence breakwater.tail_subscriber_id;
create unlogged table breakwater.tail_subscriber (
    id         bigint primary key default nextval('breakwater.tail_subscriber_id'),
    expires_at timestamptz not null
);

-- The outcomes of about the last minute, while a client subscribes. They have no payloads.
create sequence breakwater.outcome_id;
create unlogged table breakwater.outcome (
    id           bigint primary key default nextval('breakwater.outcome_id'),
    -- The transaction that wrote the line. Readers select the lines that have become visible since their last query.
    xid          xid8 not null default pg_current_xact_id(),
    at           timestamptz not null default clock_timestamp(),
    -- succeeded, failed, unavailable, throttled, unable, snoozed, released, rescued or dead_letter.
    outcome      text not null,
    queue        text collate "C" not null,
    kind         text collate "C" not null,
    -- null: the line counts several jobs that are not reported one by one.
    job          bigint,
    jobs         integer not null default 1,
    attempt      integer,
    max_attempts integer,
    worker       bigint,
    -- The time from the claim to settling, if the claim is known.
    took         interval,
    -- The reason of the dead letter.
    reason       text,
    name         text,
    message      text,
    -- When the job runs again; null: as soon as a worker is free.
    run_at       timestamptz
);
create index outcome_by_xid on breakwater.outcome (xid);

-- The last sample of the fleet's metrics. If a crash loses it, it is taken again.
create unlogged table breakwater.fleet_sample (
    only_one boolean primary key default true check (only_one),
    taken_at timestamptz not null,
    sample   jsonb not null
);
