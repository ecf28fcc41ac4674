-- What people want of a running job, and what a running job reports about itself.

-- Running jobs that a user has cancelled, until their runs have ended. A request belongs to the claim that held the
-- job. The end of that claim's hold makes the job a dead letter, unless the run succeeded.
--
-- The job is locked when a row is written, and when the hold ends. So a request is either seen by the end of the hold,
-- or finds the job waiting or gone.
create table breakwater.cancel_request (
    job          bigint primary key,
    lease        bigint not null,
    worker       bigint not null,
    actor        text not null,
    reason       text,
    requested_at timestamptz not null default now()
) with (autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
create index cancel_request_by_worker on breakwater.cancel_request (worker);

-- What the runs of jobs have reported. The row of a job stays while the job or its dead letter exists, because its
-- checkpoint is for later runs.
--
-- The limits are also kept by the worker, which cuts notes and refuses checkpoints (see RunReports.swift).
create table breakwater.progress (
    job        bigint primary key,
    kind       text collate "C" not null,
    -- The claim of the run that reported last, and how many reports that run had made. A report that is older than the
    -- row changes nothing.
    lease      bigint not null,
    version    bigint not null,
    -- How much of that run's work is done; null: unknown.
    fraction   double precision constraint fraction_is_0_to_1 check (fraction between 0 and 1),
    -- What that run does, for people.
    note       text constraint note_is_at_most_200_characters check (length(note) <= 200),
    -- A state from which the next run can go on. It is kept as it was given, because jsonb would write out the digits
    -- of a number such as 1e10000.
    checkpoint json
               constraint checkpoint_is_at_most_64_kilobytes check (octet_length(checkpoint::text) <= 65536),
    updated_at timestamptz not null default now()
) with (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_cost_delay = 0);
-- A claim looks up checkpoints only if its kind has any.
create index progress_with_checkpoint on breakwater.progress (kind) where checkpoint is not null;
