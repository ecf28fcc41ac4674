-- What waits for what, for people.

-- The batches that have not been forgotten: how many jobs each has, and how they stand. One that has ended is listed
-- for another day.
create view breakwater.batch_status as
select a.job as id, j.kind, case when a.released_at is null then 'waiting' else 'ended' end as state, a.is_open,
       a.on_dead, c.jobs, c.waiting, c.succeeded, c.dead, a.released_at
  from breakwater.dependant a
  left join breakwater.job j on j.id = a.job
 cross join lateral (
       select count(*) as jobs, count(*) filter (where d.state = 'waiting') as waiting,
              count(*) filter (where d.state = 'succeeded') as succeeded,
              count(*) filter (where d.state in ('dead', 'gone')) as dead
         from breakwater.dependency d where d.dependant = a.job) c
 where a.is_batch;

-- The jobs that a job waits for, those that these wait for, and so on (`direction` is dependency), and the jobs that
-- wait for it (dependant): at most p_limit of each direction, at most ten steps away. `parent` is the job that waits,
-- or is waited for, one step nearer. `state` is that of breakwater.dependency.
create function breakwater.job_tree(p_job bigint, p_limit integer default 100)
returns table (direction text, depth integer, path bigint[], job bigint, parent bigint, kind text, state text)
language sql stable security definer set search_path = pg_catalog, pg_temp set jit = off set enable_seqscan = off
as $$
    with recursive down as (
        (select 1 as depth, array[d.job] as path, d.job, d.dependant as parent, d.state
           from breakwater.dependency d where d.dependant = p_job order by d.job limit p_limit)
        union all
        select w.depth + 1, w.path || n.job, n.job, w.job, n.state
          from down w
         cross join lateral (select d.job, d.state from breakwater.dependency d where d.dependant = w.job
                              order by d.job limit p_limit) n
         where w.depth < 10 and n.job <> all (w.path)
    ), up as (
        (select 1 as depth, array[d.dependant] as path, d.dependant as job, d.job as parent, d.state
           from breakwater.dependency d
          where d.job = p_job and d.state in ('waiting', 'dead') order by d.dependant limit p_limit)
        union all
        select w.depth + 1, w.path || n.dependant, n.dependant, w.job, n.state
          from up w
         cross join lateral (select d.dependant, d.state from breakwater.dependency d
                              where d.job = w.job and d.state in ('waiting', 'dead')
                              order by d.dependant limit p_limit) n
         where w.depth < 10 and n.dependant <> all (w.path)
    ), tree as (
        (select 'dependency' as direction, w.* from down w limit p_limit)
        union all
        (select 'dependant', w.* from up w limit p_limit)
    )
    select t.direction, t.depth, t.path, t.job, t.parent, coalesce(j.kind, l.kind)::text, t.state
      from tree t
      left join breakwater.job j on j.id = t.job
      left join breakwater.dead_letter l on l.id = t.job
     order by t.direction desc, t.path
$$;
