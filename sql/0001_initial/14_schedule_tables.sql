-- The tables of schedules, which enqueue a job at each of their times (see 79_schedules.sql).

-- A cron expression that has been read (see 78_cron.sql).
create type breakwater.cron as (
    minutes            integer[],
    hours              integer[],
    days               integer[],
    months             integer[],
    weekdays           integer[],
    -- Days of the month by their distance from its last day: 0 for L, 3 for L-3.
    days_before_end    integer[],
    -- Days of the month whose nearest working day is meant: 15 for 15W; 0 for LW, the month's last working day.
    near_days          integer[],
    -- The n-th such weekday of the month, as 10 * weekday + n; n is 9 for the last.
    nth_weekdays       integer[],
    -- Whether every day of the month, or every day of the week, matches.
    any_day            boolean,
    any_weekday        boolean,
    -- Whether the minute or the hour has a `*`. Otherwise its times are fixed; that decides what daylight saving means.
    has_wildcard       boolean
);

-- One row for each schedule. A time at which a schedule is to run is called a slot. Plain INSERTs and UPDATEs work too:
-- a trigger checks the settings and computes `next_at`. Defaults are those of breakwater.set_schedule.
create table breakwater.schedule (
    name          text collate "C" primary key,
    -- Either a cron expression, whose times are local times of `time_zone`, or an interval. The slots of an interval
    -- are its multiples since 1970-01-01 00:00 UTC, so they do not depend on when the schedule was set.
    cron          text collate "C",
    -- The expression as it was read. The trigger sets it.
    parsed        breakwater.cron,
    every         interval,
    time_zone     text collate "C" not null default 'UTC',
    kind          text collate "C" not null,
    queue         text collate "C" not null default 'default',
    payload       jsonb not null default '{}',
    priority      smallint not null default 5,
    unique_key    text collate "C",
    -- A slot is missed if it is later than `missed_after`. Missed slots get one job together, a job each, or none.
    missed        text not null default 'one',
    missed_after  interval not null default '1 minute',
    -- If all missed slots get a job: the most that do. These are the last ones.
    missed_limit  integer not null default 100,
    -- Whether a slot gets a job while the schedule's last job still waits or runs.
    overlap       text not null default 'allow',

    -- The next slot. Everything before it has been dealt with.
    next_at       timestamptz not null,
    paused_at     timestamptz,
    paused_by     text,
    pause_reason  text,
    -- The last slot that got a job, that job, and when it was enqueued.
    last_slot     timestamptz,
    last_job      bigint,
    last_at       timestamptz,
    -- The leader's term in which the schedule last ran. A leader of an earlier term cannot advance it.
    term          bigint not null default 0,
    -- How many slots got a job, were skipped because of an overlap, and were missed.
    enqueued      bigint not null default 0,
    skipped       bigint not null default 0,
    missed_slots  bigint not null default 0,
    -- Why the last slot could not get its job. It is tried again every ten seconds. null: it could.
    error         text,
    error_at      timestamptz,
    -- Who changed its settings last, and when.
    set_by        text not null default session_user,
    set_at        timestamptz not null default now(),
    -- The last worker that started with a configuration that names the schedule. null: none ever did.
    configured_by text,
    configured_at timestamptz,

    constraint times_are_bounded
        check (next_at between '1970-01-01Z' and '9999-12-31Z'
               and (last_slot is null or last_slot between '1970-01-01Z' and '9999-12-31Z'))
) with (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_cost_delay = 0);
create index schedule_due on breakwater.schedule (next_at) where paused_at is null;

-- The latest slots of each schedule, about a hundred, and what became of them.
create table breakwater.schedule_slot (
    schedule  text collate "C" not null references breakwater.schedule on delete cascade on update cascade,
    slot      timestamptz not null,
    -- Whether a user ran the schedule by hand. The slot is the time of that then.
    by_hand   boolean not null default false,
    -- enqueued; skipped: `job`, an earlier one, had not ended; missed: no job was enqueued for it.
    outcome   text not null check (outcome in ('enqueued', 'skipped', 'missed')),
    job       bigint,
    -- How many slots the row stands for: missed ones that ended with this one.
    slots     integer not null default 1,
    -- When it was dealt with.
    at        timestamptz not null,
    primary key (schedule, slot, by_hand)
) with (autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
