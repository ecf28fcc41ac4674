-- A view of schedules for users: when each one runs next, and why one does not.

create view breakwater.schedule_status as
select s.name, s.cron, s.every, s.time_zone, s.kind, s.queue, s.payload, s.priority, s.unique_key, s.missed,
       s.missed_after, s.missed_limit, s.overlap,
       t.state,
       case t.state
           when 'paused' then format('paused by %s since %s: %s', s.paused_by, s.paused_at, s.pause_reason)
           when 'failing' then format('the slot %s got no job, and is tried again every ten seconds: %s', s.next_at,
                                      s.error)
           when 'overdue' then case
               when exists (select from breakwater.leader l where l.expires_at > now())
               then format('the slot %s is due since %s, and the leader has not come to it', s.next_at, t.late)
               else format('the slot %s is due since %s: no worker is alive to run schedules', s.next_at, t.late) end
           when 'waiting' then format('job %s has not ended, so slots get no job until then; it is %s: %s', w.id,
                                      w.state, w.why)
           else case when not exists (select from breakwater.active_worker a
                                       where s.kind = any (a.kinds) and s.queue = any (a.queues))
                     then format('runs next at %s; no worker that is alive handles ''%s'' in the queue ''%s''',
                                 s.next_at, s.kind, s.queue)
                     else format('runs next at %s', s.next_at) end
       end as why,
       case when s.paused_at is null then s.next_at end as next_at,
       case when s.paused_at is null
            then s.next_at || array(select breakwater.next_slots(s.parsed, s.every, s.time_zone, s.next_at, 4))
            else '{}' end as next_slots,
       s.paused_at, s.paused_by, s.pause_reason, s.last_slot, s.last_job, s.last_at,
       extract(epoch from s.last_at - s.last_slot)::double precision as lateness,
       s.enqueued, s.skipped, s.missed_slots, s.error, s.set_by, s.set_at, s.configured_by, s.configured_at
  from breakwater.schedule s
  -- The job that later slots wait for, if there is one.
  left join breakwater.job j on j.kind = s.kind and j.unique_key = breakwater.slot_key(s) collate "C"
  left join lateral (select v.id, v.state, v.why from breakwater.job_status v where v.id = j.id) w on true
 cross join lateral (
       select date_trunc('second', breakwater.clock() - s.next_at) as late,
              case when s.paused_at is not null then 'paused'
                   when s.error is not null then 'failing'
                   when s.next_at < breakwater.clock() - interval '10 seconds' then 'overdue'
                   when j.id is not null then 'waiting'
                   else 'active' end as state) t;
