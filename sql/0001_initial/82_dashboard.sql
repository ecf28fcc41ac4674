-- Functions for the dashboard. All of them are bounded, so that they answer at once for any number of jobs. Counts stop
-- at a cap that the caller chooses. The views have the exact numbers.

-- The cause of a dead letter, in a form that is the same for letters with the same cause: the name and the beginning of
-- the message of its last error, with `#` for numbers and identifiers.
create function breakwater.failure_of(p_errors jsonb) returns text
language sql immutable
as $$
    select left(
        left(coalesce(p_errors -> -1 ->> 'name', ''), 80)
        || case when p_errors -> -1 ->> 'message' <> '' then ': ' else '' end
        || regexp_replace(
               left(coalesce(p_errors -> -1 ->> 'message', ''), 300),
               E'\\m[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\\M|\\m(?=[a-f]*[0-9])[0-9a-f]{8,}\\M|[0-9]+([.:,-][0-9]+)*',
               '#', 'gi'),
        200)
$$;

alter table breakwater.dead_letter
    add column failure text collate "C" not null generated always as (breakwater.failure_of(errors)) stored;
create index dead_letter_by_failure on breakwater.dead_letter (kind, failure, died_at);

-- Sums the tallies of each minute that has ended, once. The newest ten seconds may still change.
create function breakwater.aggregate_rates() returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_from timestamptz;
    v_to   timestamptz := date_trunc('minute', breakwater.clock() - interval '10 seconds');
begin
    select r.minute into v_from from breakwater.rate_horizon r;
    if not found then
        insert into breakwater.rate_horizon (minute) values (v_to) on conflict do nothing;
        return;
    elsif v_from >= v_to then
        return;
    end if;
    select r.minute into v_from from breakwater.rate_horizon r where r.minute < v_to for update skip locked;
    if not found then
        return;
    end if;
    -- Older tallies are pruned.
    v_from := greatest(v_from, v_to - interval '2 hours');
    insert into breakwater.rate (minute, kind, succeeded, failed, slow, died)
    select s.minute, s.kind, sum(s.succeeded), sum(s.failed), sum(s.slow), sum(s.died)
      from (select date_trunc('minute', t.slot) as minute, t.kind, t.succeeded, t.failed, t.slow, 0 as died
              from breakwater.tally t
             where t.slot >= v_from and t.slot < v_to and t.key = '' and t.kind <> '*'
            union all
            select date_trunc('minute', d.died_at), d.kind, 0, 0, 0, 1
              from breakwater.dead_letter d
             where d.died_at >= v_from and d.died_at < v_to) s
     group by s.minute, s.kind
    having sum(s.succeeded) + sum(s.failed) + sum(s.slow) + sum(s.died) > 0
    on conflict do nothing;
    update breakwater.rate_horizon set minute = v_to;
end
$$;

-- The counts of each of the last p_minutes minutes, for one kind or for all: the oldest minute first, the current one
-- (which has not ended) last.
create function breakwater.rates(p_minutes integer, p_kind text default null)
returns table (minute timestamptz, succeeded bigint, failed bigint, slow bigint, died bigint)
language sql stable set search_path = pg_catalog, pg_temp
as $$
    with span as (
        select date_trunc('minute', breakwater.clock()) - make_interval(mins => p_minutes - 1) as first,
               date_trunc('minute', breakwater.clock()) as last,
               (select r.minute from breakwater.rate_horizon r) as horizon
    ), happened as (
        select r.minute, r.succeeded, r.failed, r.slow, r.died
          from span, breakwater.rate r
         where r.minute >= span.first and (p_kind is null or r.kind = p_kind collate "C")
        union all
        -- Tallies that are not summed yet are read minute by minute, because computing each row's minute would take
        -- longer than reading the row. While no worker leads, only the last few minutes are read.
        select u.minute, t.succeeded, t.failed, t.slow, d.died
          from span
         cross join lateral generate_series(greatest(span.horizon, span.first, span.last - interval '3 minutes'),
                                            span.last, interval '1 minute') u(minute)
         cross join lateral (
               select sum(o.succeeded) as succeeded, sum(o.failed) as failed, sum(o.slow) as slow
                 from breakwater.tally o
                where o.slot >= u.minute and o.slot < u.minute + interval '1 minute' and o.key = '' and o.kind <> '*'
                  and (p_kind is null or o.kind = p_kind collate "C")) t
         cross join lateral (
               select count(*) as died
                 from breakwater.dead_letter o
                where o.died_at >= u.minute and o.died_at < u.minute + interval '1 minute'
                  and (p_kind is null or o.kind = p_kind collate "C")) d
    )
    select m.minute, coalesce(sum(h.succeeded), 0)::bigint, coalesce(sum(h.failed), 0)::bigint,
           coalesce(sum(h.slow), 0)::bigint, coalesce(sum(h.died), 0)::bigint
      from span
     cross join lateral generate_series(span.first, span.last, interval '1 minute') m(minute)
      left join happened h on h.minute = m.minute
     group by m.minute
     order by m.minute
$$;

-- How the calls of the last p_seconds seconds ended, including the current second.
create function breakwater.recent_call_counts(p_seconds integer, out succeeded bigint, out failed bigint)
language sql stable set search_path = pg_catalog, pg_temp set jit = off
as $$
    select coalesce(sum(t.succeeded), 0)::bigint, coalesce(sum(t.failed), 0)::bigint
      from breakwater.tally t
     where t.slot > breakwater.clock() - make_interval(secs => p_seconds) and t.key = '' and t.kind <> '*'
$$;

-- Every queue and kind that has jobs or a worker, at most p_names, with counts that stop at p_cap. Kinds that some
-- worker has handled come first, because any client that can enqueue can create any number of others. `oldest` is how
-- long the first ready job of a lane has waited. `is_capped` is true if some count reached p_cap.
--
-- The jobs of a lane are counted only in its index, and the running ones are subtracted, because checking whether each
-- job runs would read all of them from the table.
create function breakwater.backlog(p_cap integer default 10000, p_names integer default 500)
returns table (
    queue text, kind text, ready bigint, running bigint, scheduled bigint, retrying bigint, parked bigint,
    dependent bigint, oldest interval, is_capped boolean
)
language sql stable
set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_bitmapscan = off
as $$
    with lane as (
        select l.queue, l.kind, l.priority from breakwater.ready_lanes(1000) l
    ), running as (
        -- Running jobs are found through the claims.
        select j.queue, j.kind, count(*) filter (where j.run_at is null) as jobs,
               count(*) filter (where j.run_at is null or j.rule is not null) as all_jobs
          from breakwater.held h join breakwater.job j on j.id = h.job
         where j.run_at is null or j.rule is not null
         group by j.queue, j.kind
    ), ready as (
        select g.queue, g.kind, greatest(c.jobs - coalesce(r.jobs, 0), 0) as jobs, g.oldest
          from (select l.queue, l.kind, min(f.ready_at) as oldest
                  from lane l
                  left join lateral (
                       select j.ready_at from breakwater.job j
                        where j.run_at is null and j.queue = l.queue and j.kind = l.kind and j.priority = l.priority
                          and j.id not in (select h.job from breakwater.held h)
                        order by j.position limit 1) f on true
                 group by l.queue, l.kind) g
          left join running r on r.queue = g.queue and r.kind = g.kind
         cross join lateral (
               select count(*) as jobs
                 from (select from breakwater.job j
                        where j.run_at is null and j.queue = g.queue and j.kind = g.kind
                        limit p_cap + coalesce(r.jobs, 0)) s) c
    ), due as (
        select w.queue, w.kind, count(*) filter (where not w.has_run) as scheduled,
               count(*) filter (where w.has_run) as retrying
          from breakwater.waiting_for_time(p_cap) w
         group by w.queue, w.kind
    ), parked as (
        select s.queue, s.kind, count(*) as jobs
          from breakwater.handler h
         cross join lateral (select j.queue, j.kind from breakwater.job j
                              where j.kind = h.kind and j.parked is not null limit p_cap) s
         where h.key_path is not null
         group by s.queue, s.kind
        union all
        -- Jobs that a rule holds back.
        select s.queue, s.kind, count(*)
          from breakwater.handler h
         cross join lateral unnest(h.rules) r(rule)
         cross join lateral (select j.queue, j.kind from breakwater.job j
                              where j.kind = h.kind and j.rule = r.rule
                                and j.id not in (select k.job from breakwater.held k)
                              limit p_cap) s
         group by s.queue, s.kind
    ), dependent as (
        select w.queue, w.kind, count(*) as jobs from breakwater.waiting_for_jobs(p_cap) w group by w.queue, w.kind
    ), name as (
        select r.queue, r.kind from ready r union select r.queue, r.kind from running r
        union select d.queue, d.kind from due d union select p.queue, p.kind from parked p
        union select e.queue, e.kind from dependent e
        union select q, k from breakwater.worker w, unnest(w.queues) q, unnest(w.kinds) k
    ), shown as (
        select n.queue, n.kind from name n
         order by exists (select from breakwater.handler h where h.kind = n.kind collate "C") desc, n.queue, n.kind
         limit p_names
    )
    select n.queue, n.kind, coalesce(r.jobs, 0), coalesce(g.all_jobs, 0), coalesce(d.scheduled, 0),
           coalesce(d.retrying, 0), coalesce(p.jobs, 0), coalesce(e.jobs, 0),
           case when r.jobs > 0 then greatest(now() - r.oldest, interval '0') end,
           coalesce(r.jobs >= p_cap or p.jobs >= p_cap or e.jobs >= p_cap or d.scheduled + d.retrying >= p_cap, false)
      from shown n
      left join ready r using (queue, kind) left join running g using (queue, kind)
      left join due d using (queue, kind) left join dependent e using (queue, kind)
      left join (select s.queue, s.kind, sum(s.jobs)::bigint as jobs from parked s group by s.queue, s.kind) p
        using (queue, kind)
     order by n.queue, n.kind
$$;

-- The calls in a circuit's window, in p_parts of equal length, the oldest first: parts of time, or of calls if the
-- window is measured in calls. For a circuit that is not closed, it is the window at the time when the circuit opened,
-- as long as its calls are kept. The page costs are as for window_of.
create function breakwater.window_parts(p_kind text, p_key text, p_parts integer)
returns table (part integer, succeeded bigint, failed bigint, slow bigint)
language plpgsql stable set search_path = pg_catalog, pg_temp set seq_page_cost = 0 set random_page_cost = 0
as $$
#variable_conflict use_column
declare
    v_policy  breakwater.handler := breakwater.policy_of(p_kind, p_key);
    v_generation bigint;
    v_end     timestamptz := breakwater.clock();
    v_state   text;
    v_length  double precision := extract(epoch from coalesce(v_policy.circuit_window, interval '1 minute'));
    v_recent  text;
begin
    select c.generation, c.state into v_generation, v_state from breakwater.circuit c
     where c.kind = p_kind collate "C" and c.key = p_key collate "C";
    if v_state <> 'closed' then
        select t.generation - 1, t.at into v_generation, v_end from breakwater.circuit_transition t
         where t.kind = p_kind collate "C" and t.key = p_key collate "C"
           and t.from_state = 'closed' and t.to_state = 'open'
         order by t.generation desc limit 1;
    end if;
    if v_policy.window_calls is not null then
        select right(coalesce(string_agg(r.calls, '' order by r.id), ''), v_policy.window_calls) into v_recent
          from (select c.id, c.calls from breakwater.recent_call c
                 where c.kind = p_kind collate "C" and c.key = p_key collate "C" and c.generation = v_generation
                 order by c.id desc limit v_policy.window_calls) r;
        return query
            select p.part, count(*) filter (where c.letter in ('s', 'S')), count(*) filter (where c.letter in ('f', 'F')),
                   count(*) filter (where c.letter in ('S', 'F'))
              from generate_series(0, p_parts - 1) p(part)
              left join (select l.letter,
                                ((l.place - 1 + v_policy.window_calls - length(v_recent)) * p_parts
                                 / v_policy.window_calls)::integer as part
                           from regexp_split_to_table(v_recent, '') with ordinality l(letter, place)) c
                     on c.part = p.part
             group by p.part order by p.part;
        return;
    end if;
    return query
        select p.part, coalesce(sum(t.succeeded), 0)::bigint, coalesce(sum(t.failed), 0)::bigint,
               coalesce(sum(t.slow), 0)::bigint
          from generate_series(0, p_parts - 1) p(part)
          left join (select t.succeeded, t.failed, t.slow,
                            least(p_parts - 1, greatest(0, p_parts - 1 - floor(
                                extract(epoch from v_end - t.slot) * p_parts / v_length)::integer)) as part
                       from breakwater.tally t
                      where t.kind = p_kind collate "C" and t.key = p_key collate "C" and t.generation = v_generation
                        and t.slot > v_end - make_interval(secs => v_length)
                        and t.slot <= v_end) t on t.part = p.part
         group by p.part order by p.part;
end
$$;

-- The dead letters by kind and failure, of one kind or of all: at most p_limit groups. Each group is counted up to a
-- cap. Once twenty times the cap is counted in all, the other groups are counted up to a tenth of it. `is_capped` is
-- true if a count reached its cap.
create function breakwater.dead_letter_groups(p_kind text, p_cap integer, p_limit integer)
returns table (
    kind text, failure text, letters bigint, oldest timestamptz, newest timestamptz, example bigint, is_capped boolean
)
language plpgsql stable
set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off set enable_bitmapscan = off
as $$
#variable_conflict use_column
declare
    v_kind    text := coalesce(p_kind, '');
    v_failure text := '';
    v_left    bigint := p_cap * 20::bigint;
    v_cap     integer;
begin
    for place in 1 .. p_limit loop
        -- It skips from group to group along the index, without reading the rows between.
        select d.kind, d.failure into kind, failure from breakwater.dead_letter d
         where (d.kind, d.failure) >= (v_kind collate "C", v_failure collate "C")
         order by d.kind, d.failure limit 1;
        exit when not found or kind <> p_kind;
        v_cap := least(p_cap, greatest(v_left, p_cap / 10));
        select count(*) into letters
          from (select from breakwater.dead_letter d
                 where d.kind = dead_letter_groups.kind and d.failure = dead_letter_groups.failure limit v_cap) s;
        is_capped := letters >= v_cap;
        v_left := v_left - letters;
        select d.died_at into oldest from breakwater.dead_letter d
         where d.kind = dead_letter_groups.kind and d.failure = dead_letter_groups.failure
         order by d.died_at limit 1;
        select d.died_at, d.id into newest, example from breakwater.dead_letter d
         where d.kind = dead_letter_groups.kind and d.failure = dead_letter_groups.failure
         order by d.died_at desc limit 1;
        return next;
        v_kind := kind;
        -- No text sorts between a text and the same text followed by the lowest character.
        v_failure := failure || E'\x01';
    end loop;
end
$$;

-- The causes of the last p_look dead letters, the newest first, with counts up to a cap.
create function breakwater.latest_failures(p_look integer, p_cap integer, p_limit integer)
returns table (
    kind text, failure text, letters bigint, oldest timestamptz, newest timestamptz, example bigint, is_capped boolean
)
language sql stable
set search_path = pg_catalog, pg_temp
set jit = off set enable_seqscan = off
as $$
    select g.kind, g.failure, c.letters, g.oldest, g.newest, g.example, c.letters >= p_cap
      from (select l.kind, l.failure, min(l.died_at) as oldest, max(l.died_at) as newest,
                   (array_agg(l.id order by l.died_at desc, l.id desc))[1] as example
              from (select d.id, d.kind, d.failure, d.died_at from breakwater.dead_letter d
                     order by d.died_at desc limit p_look) l
             group by l.kind, l.failure
             order by max(l.died_at) desc, l.kind, l.failure
             limit p_limit) g
     cross join lateral (
           select count(*) as letters from (select from breakwater.dead_letter d
                                             where d.kind = g.kind and d.failure = g.failure limit p_cap) s) c
     order by g.newest desc, g.kind, g.failure
$$;

-- How many dead letters redrive_some and purge_some could pick, counted up to a cap.
create function breakwater.count_dead_letters(
    p_ids bigint[], p_kind text, p_reason text, p_failure text, p_died_until timestamptz, p_cap integer
) returns bigint
language plpgsql stable set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan set jit = off
as $$
begin
    return (select count(*)
              from (select from breakwater.dead_letter d
                     where (p_ids is null or d.id = any (p_ids))
                       and (p_kind is null or d.kind = p_kind collate "C")
                       and (p_reason is null or d.reason = p_reason)
                       and (p_failure is null or d.failure = p_failure collate "C")
                       and (p_died_until is null or d.died_at <= p_died_until)
                     limit p_cap) s);
end
$$;
