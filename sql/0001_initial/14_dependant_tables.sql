-- Jobs that wait for other jobs. A job that waits is a *dependant*, and each job that it waits for is a *dependency* of
-- it. The dependant's run_at is infinity until it is released.

-- One row for each dependant.
create table breakwater.dependant (
    job          bigint primary key,
    -- What becomes of it when a dependency dies: it waits until that one is redriven and succeeds (hold), becomes a
    -- dead letter itself (cancel), or waits for the others only (run).
    on_dead      text not null constraint on_dead_is_known check (on_dead in ('hold', 'cancel', 'run')),
    -- It runs no earlier than this, however soon it is released.
    run_at       timestamptz,
    -- Whether it is the callback of a batch. Jobs can be added to its dependencies while it waits. Its payload gets
    -- how they ended.
    is_batch     boolean not null default false,
    -- Whether it waits even without a dependency, until close_batch is called.
    is_open      boolean not null default false,
    -- Whether it gets the results of its dependencies.
    with_results boolean not null default false,
    -- When it stopped waiting. The row is kept for another day, for people who look at the job.
    released_at  timestamptz
);
create index dependant_waiting on breakwater.dependant (job) where released_at is null;
create index dependant_released on breakwater.dependant (released_at) where released_at is not null;

-- One row for each dependency.
create table breakwater.dependency (
    dependant bigint not null,
    -- The job that it waits for.
    job       bigint not null,
    -- gone: its dead letter was purged, or somebody deleted its row.
    state     text not null constraint state_is_known check (state in ('waiting', 'succeeded', 'dead', 'gone')),
    -- Whether the job may have ended before this row was committed, so that nothing has noted its end.
    is_new    boolean not null default false,
    primary key (dependant, job)
) with (
    autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_threshold = 50000, autovacuum_analyze_scale_factor = 0
);
-- For jobs that end, and dead letters that are redriven or purged.
create index dependency_by_job on breakwater.dependency (job) where state in ('waiting', 'dead');
-- For the question whether anything is left to wait for.
create index dependency_waiting on breakwater.dependency (dependant, job) where state = 'waiting';
create index dependency_failed on breakwater.dependency (dependant, state, job) where state in ('dead', 'gone');
create index dependency_new on breakwater.dependency (job) where is_new;

-- Jobs whose end maintenance notes in portions, because too many jobs wait for them.
create table breakwater.ended_dependency (
    job   bigint primary key,
    state text not null
);

-- Dependants that maintenance checks, because one of their dependencies has ended. Rows are only added and deleted.
create table breakwater.dependant_to_check (
    dependant bigint not null
) with (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);

-- This table has no rows. A transaction that might write a cycle of dependencies locks it until it ends.
create table breakwater.dependency_lock ();
