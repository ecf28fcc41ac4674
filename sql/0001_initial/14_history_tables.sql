-- The history: jobs that have ended, of the kinds whose configuration asks for it (`history: { keep: 7d }`).
--
-- The statement that deletes a finished job writes its row here. Rows are only added, and whole days are only dropped,
-- so the table has no dead rows, however long another session holds a snapshot. A kind whose history is off writes
-- nothing.
--
-- There is no default partition, because a day could not be attached beside it without locking and scanning it.
-- Instead, the leader adds the days ahead, and a settle that finds no partition for its day adds it (see
-- breakwater.add_history_day).
--
-- The days are shared by all kinds. A day is dropped when it is older than the longest `keep` of all kinds. Until then
-- the view breakwater.finished leaves out the rows that are older than their own kind's `keep`.
create table breakwater.finished_job (
    id          bigint not null,
    kind        text collate "C" not null,
    queue       text collate "C" not null,
    priority    smallint not null,
    -- succeeded or dead_letter.
    outcome     text not null,
    -- Why the job became a dead letter, as in breakwater.dead_letter; or `fallback`, if its circuit's fallback made it
    -- succeed. null: its handler succeeded.
    reason      text,
    -- Counted runs.
    attempt     integer not null,
    -- What the payload had at the path of the handler's history_key; null: nothing.
    key         text collate "C",
    unique_key  text collate "C",
    enqueued_at timestamptz not null,
    -- When the job last became ready, and when its last run was claimed; null: the job ended while it waited.
    ready_at    timestamptz not null,
    claimed_at  timestamptz,
    finished_at timestamptz not null,
    -- The worker of the last run. The number means nothing to people once the worker has left.
    worker      bigint,
    worker_name text,
    traceparent text,
    -- The failed runs, as in breakwater.job. null: none.
    errors      jsonb,
    -- null: the kind keeps no results.
    result      jsonb,
    -- null: the kind's history has no payloads.
    payload     jsonb
) partition by range (finished_at);

-- Each index costs every finished job about half as much as its row itself. So there is none by time alone: the newest
-- jobs of each kind are merged. The last two are free for jobs without a key.
create index finished_job_by_kind on breakwater.finished_job (kind, finished_at);
create index finished_job_by_id on breakwater.finished_job (id);
create index finished_job_by_key on breakwater.finished_job (key, finished_at) where key is not null;
create index finished_job_by_unique_key on breakwater.finished_job (unique_key, finished_at)
    where unique_key is not null;
